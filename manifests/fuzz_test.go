package manifests

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	sigsyaml "sigs.k8s.io/yaml"
)

// FuzzFile reads whatever comes as YAML and as JSON. It must not panic, must place every finding inside the file, and must read
// what it accepts as sigs.k8s.io/yaml reads it.
func FuzzFile(f *testing.F) {
	archives, err := filepath.Glob("testdata/corpus/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range archives {
		body, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range txtar.Parse(body).Files {
			f.Add(file.Data)
		}
	}
	for _, s := range []string{"a: 0o7\nb: 1_000\nc: 0x1F\nd: 1e3\ne: 190:20\nf: 2001-01-01\ng: .5\nh: ~\ni: +12\nj: 0b11\n", "yes: no\n1.5: x\n", "a: !!binary aGk=\nb: !!str 5\nc: !!int \"7\"\n", "? a\n: b\n", "\ufeffa: b\n", "a: &x {b: c}\nd: {<<: *x, e: f}\n"} {
		f.Add([]byte(s))
	}
	c := &checker{types: &types{}}
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, name := range []string{"x.yaml", "x.json"} {
			for _, found := range c.file(name, content).findings {
				if found.Line < 1 || found.Col < 1 || found.File != name {
					t.Errorf("finding outside the file: %v", found)
				}
			}
		}
		sameAsSigs(t, content)
	})
}

// sameAsSigs compares a file of one document without mistakes with what kubectl's parser makes of it.
func sameAsSigs(t *testing.T, content []byte) {
	roots, findings := parseYAML("x.yaml", content)
	if len(roots) != 1 || len(findings) > 0 || roots[0].shape != mapping || len(splitDocuments(content)) != 1 {
		return
	}
	want, err := sigsyaml.YAMLToJSONStrict(content)
	if err != nil {
		return
	}
	var a, b any
	if json.Unmarshal(want, &a) != nil {
		return
	}
	if err := json.Unmarshal(roots[0].appendJSON(nil), &b); err != nil {
		t.Fatalf("our JSON is none: %v\n%s", err, roots[0].appendJSON(nil))
	}
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	if string(x) != string(y) {
		t.Errorf("%q\nsigs: %s\nours: %s", content, x, y)
	}
}

// BenchmarkValidate measures 1,000 Deployments of about 2 KB in 1,000 files: cold, and with one file changed.
func BenchmarkValidate(b *testing.B) {
	tree := Files{}
	for i := range 1000 {
		tree[filepath.Join("d", string(rune('a'+i%26)), "f"+json.Number(itoa(i)).String()+".yaml")] = benchDeployment(i)
	}
	b.Run("cold", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			res, err := newLoader(b).Load(b.Context(), tree)
			if err != nil || len(res.Findings) > 0 || len(res.Manifests) != 1000 {
				b.Fatalf("%v %v", res.Findings, err)
			}
		}
	})
	b.Run("warm", func(b *testing.B) {
		l := newLoader(b)
		if _, err := l.Load(b.Context(), tree); err != nil {
			b.Fatal(err)
		}
		n := 0
		b.ResetTimer()
		for b.Loop() {
			n++
			tree["d/a/f0.yaml"] = append(benchDeployment(0), []byte("# "+itoa(n)+"\n")...)
			if _, err := l.Load(b.Context(), tree); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

// benchDeployment is a Deployment of 79 lines.
func benchDeployment(i int) []byte {
	name := "web-" + itoa(i)
	out := "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: " + name + "\n  labels:\n    app.kubernetes.io/name: " + name + "\n    app.kubernetes.io/part-of: shop\nspec:\n  replicas: 3\n  selector:\n    matchLabels:\n      app.kubernetes.io/name: " + name + "\n  strategy:\n    type: RollingUpdate\n    rollingUpdate:\n      maxSurge: 25%\n      maxUnavailable: 0\n  template:\n    metadata:\n      labels:\n        app.kubernetes.io/name: " + name + "\n    spec:\n      terminationGracePeriodSeconds: 30\n      containers:\n"
	for _, c := range []string{"main", "side"} {
		out += "      - name: " + c + "\n        image: registry.local/shop/" + c + ":v1.2.3\n        imagePullPolicy: IfNotPresent\n        args: [\"--listen\", \":8080\", \"--level\", \"info\"]\n        env:\n        - name: A\n          value: \"1\"\n        - name: B\n          valueFrom:\n            secretKeyRef:\n              name: secrets\n              key: b\n        - name: C\n          valueFrom:\n            configMapKeyRef:\n              name: config\n              key: c\n        ports:\n        - name: " + c + "\n          containerPort: 8080\n        resources:\n          requests:\n            cpu: 100m\n            memory: 64Mi\n          limits:\n            memory: 128Mi\n        readinessProbe:\n          httpGet:\n            path: /healthz\n            port: 8080\n          periodSeconds: 5\n"
	}
	return []byte(out + "      volumes:\n      - name: tmp\n        emptyDir: {}\n")
}
