package manifests

import (
	"context"
	"strings"
	"testing"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"
	"cuelang.org/go/encoding/yaml"

	"reconcile/schema"
)

const agreeBase = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web}
spec:
  replicas: 2
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 25%}
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      restartPolicy: Always
      containers:
      - name: web
        image: web:v1
        imagePullPolicy: IfNotPresent
        ports:
        - containerPort: 80
          protocol: TCP
        resources:
          requests: {cpu: 100m, memory: 64Mi}
          limits: {cpu: 1.5}
        readinessProbe:
          httpGet: {path: /, port: http}
        env:
        - name: A
          valueFrom: {secretKeyRef: {name: s, key: k, optional: true}}
      volumes:
      - name: v
        emptyDir: {medium: Memory, sizeLimit: 1Gi}
`

// TestDefinitionsAgreeWithTheGoRules changes one thing at a time in a good manifest: whatever has to do with the shape of a
// document, the closed definitions and the Go rules accept or refuse alike.
func TestDefinitionsAgreeWithTheGoRules(t *testing.T) {
	l := newLoader(t)
	cues := cuecontext.New()
	definitions := cues.CompileString(schema.Definitions())
	if err := definitions.Err(); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ old, new string }{
		{"", ""},
		{"image: web:v1", "imag: web:v1"}, {"replicas: 2", "replicaz: 2"}, {"  labels: {app: web}\nspec", "  lables: {app: web}\nspec"},
		{"replicas: 2", "replicas: two"}, {"replicas: 2", "replicas: 3000000000"}, {"replicas: 2", "replicas: [2]"}, {"replicas: 2", "replicas: 2.5"},
		{"image: web:v1", "image: 1"}, {"image: web:v1", "image: [x]"}, {"containerPort: 80", "containerPort: http"},
		{"type: RollingUpdate", "type: Rolling"}, {"protocol: TCP", "protocol: TPC"}, {"imagePullPolicy: IfNotPresent", "imagePullPolicy: Sometimes"},
		{"cpu: 100m", "cpu: 100mm"}, {"cpu: 100m", "cpu: [1]"}, {"memory: 64Mi", "memory: 64MiB"}, {"memory: 64Mi", "memory: 6.5e7"},
		{"maxSurge: 1", "maxSurge: [1]"}, {"maxSurge: 1", "maxSurge: 10%"},
		{"- name: web", "- nome: web"}, {"containerPort: 80\n          protocol", "protocol"}, {"optional: true", "optional: 1"}, {"optional: true", "optional: \"yes\""},
		{"name: web\n  labels: {app: web}", "name: web\n  labels: {app: 5}"}, {"  selector:\n    matchLabels: {app: web}\n", ""},
		{"medium: Memory", "medium: [Memory]"}, {"sizeLimit: 1Gi", "sizeLimit: 1Gigabyte"}, {"path: /", "path: [/]"}, {"port: http", "port: [80]"},
		{"restartPolicy: Always", "restartPolicy: always"}, {"kind: Deployment", "kind: Deploymint"}, {"apiVersion: apps/v1", "apiVersion: apps/v1beta1"},
		{"- name: A\n", "- name: A\n          value: 5\n"}, {"spec:\n  replicas", "status: {}\nspec:\n  replicas"},
	} {
		if !strings.Contains(agreeBase, tc.old) {
			t.Errorf("the base does not hold %q", tc.old)
			continue
		}
		doc := strings.Replace(agreeBase, tc.old, tc.new, 1)
		res, err := l.Load(context.Background(), Files{"x.yaml": []byte(doc)})
		if err != nil {
			t.Fatal(err)
		}
		file, err := yaml.Extract("x.yaml", []byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		bad := definitions.LookupPath(cue.ParsePath("#Deployment")).Unify(cues.BuildFile(file)).Validate(cue.Concrete(true))
		if (len(res.Findings) > 0) != (bad != nil) {
			t.Errorf("%q -> %q: the Go rules say %v, the definitions %v", tc.old, tc.new, res.Findings, bad)
		}
	}
}

// TestDefinitionsAcceptTheCorpus holds every object of the valid corpus against its definition.
func TestDefinitionsAcceptTheCorpus(t *testing.T) {
	cues := cuecontext.New()
	definitions := cues.CompileString(schema.Definitions())
	for _, m := range corpusObjects(t, "valid", "cue-valid") {
		d := definitions.LookupPath(cue.ParsePath("#" + m.Object.GetObjectKind().GroupVersionKind().Kind))
		if !d.Exists() {
			t.Errorf("no definition for %s", m.Key)
			continue
		}
		doc := cues.CompileBytes(m.Set)
		if err := d.Unify(doc).Validate(cue.Concrete(true)); err != nil {
			t.Errorf("%s: %v", m.Key, err)
		}
	}
}
