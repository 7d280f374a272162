package admission

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"reconcile/object"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)

func decode(t testing.TB, doc string) (object.Object, []byte) {
	t.Helper()
	b, err := yaml.YAMLToJSON([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	o, strict, err := DecodeJSON(b)
	if err != nil || len(strict) > 0 {
		t.Fatal(err, strict)
	}
	return o, b
}

const web = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default, labels: {team: a}}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: c
        image: v1
        ports: [{containerPort: 80}]
        env: [{name: A, value: "1"}, {name: B, value: "2"}]
        livenessProbe: {httpGet: {path: /, port: 80}}
`

func TestDefault(t *testing.T) {
	o, _ := decode(t, web)
	Default(o)
	d := o.(*appsv1.Deployment)
	if *d.Spec.RevisionHistoryLimit != 10 || d.Spec.Strategy.RollingUpdate.MaxSurge.String() != "25%" || d.Spec.Template.Spec.DNSPolicy != corev1.DNSClusterFirst ||
		d.Spec.Template.Spec.SecurityContext == nil || d.Spec.Template.Spec.Containers[0].Ports[0].Protocol != corev1.ProtocolTCP {
		t.Errorf("defaults are missing: %+v", d.Spec)
	}
	again := object.Copy(d)
	Default(again)
	if !equality.Semantic.DeepEqual(d, again) {
		t.Error("defaulting twice is not defaulting once")
	}
	s, _ := decode(t, "{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {a: b}}")
	Default(s)
	if sec := s.(*corev1.Secret); string(sec.Data["a"]) != "b" || sec.StringData != nil || sec.Type != corev1.SecretTypeOpaque {
		t.Errorf("a Secret's stringData must become data: %+v", sec)
	}
}

func TestValidateTexts(t *testing.T) {
	for _, tc := range []struct{ name, doc, want string }{
		{"good", web, ""},
		{"selector", strings.Replace(web, "{matchLabels: {app: web}}", "{matchLabels: {app: x}}", 1),
			`spec.template.metadata.labels: Invalid value: {"app":"web"}: ` + "`selector` does not match template `labels`"},
		{"negative", strings.Replace(web, "replicas: 3", "replicas: -1", 1), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"},
		{"port", strings.Replace(web, "containerPort: 80", "containerPort: 99999", 1), "spec.template.spec.containers[0].ports[0].containerPort: Invalid value: 99999: must be between 1 and 65535, inclusive"},
		{"no image", strings.Replace(web, "image: v1", "image: ''", 1), "spec.template.spec.containers[0].image: Required value"},
		{"name", strings.Replace(web, "name: web,", "name: Web_,", 1), "metadata.name: Invalid value: \"Web_\": a lowercase RFC 1123 subdomain"},
		{"service without ports", "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: default}, spec: {selector: {a: b}}}", "spec.ports: Required value"},
		{"headless without ports", "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: default}, spec: {clusterIP: None, selector: {a: b}}}", ""},
		{"pod", "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: default}, spec: {containers: []}}", "spec.containers: Required value"},
		{"config map key", "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: default}, data: {'a b': c}}", `data[a b]: Invalid value: "a b": a valid config key`},
		{"namespace", "{apiVersion: v1, kind: Namespace, metadata: {name: a.b}}", `metadata.name: Invalid value: "a.b": must not contain dots`},
		{"lease", "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: l, namespace: default}, spec: {leaseDurationSeconds: -3}}", "spec.leaseDurationSeconds: Invalid value: -3: must be greater than 0"},
		{"slice", "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: e, namespace: default}, addressType: IPv4, endpoints: [{addresses: [x]}]}", "endpoints[0].addresses[0]: Invalid value: \"x\""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o, _ := decode(t, tc.doc)
			Default(o)
			errs := Validate(o, nil)
			got := ""
			if len(errs) > 0 {
				got = errs[0].Error()
			}
			if (tc.want == "") != (got == "") || !strings.HasPrefix(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestValidateUpdate(t *testing.T) {
	o, _ := decode(t, web)
	Default(o)
	old := o.(*appsv1.Deployment)
	PrepareCreate(old, "u1", now)
	next := object.Copy(old)
	next.Spec.Selector.MatchLabels = map[string]string{"app": "y"}
	next.Spec.Template.Labels = map[string]string{"app": "y"}
	if errs := Validate(next, old); len(errs) != 1 || errs[0].Field != "spec.selector" || !strings.Contains(errs[0].Detail, "field is immutable") {
		t.Errorf("want: the selector is immutable; got %v", errs)
	}
	same := object.Copy(old)
	same.Spec.Template.Spec.Containers[0].Image = "v2"
	if errs := Validate(same, old); len(errs) != 0 {
		t.Errorf("a new image is no fault: %v", errs)
	}
}

func TestDecodeStrict(t *testing.T) {
	for _, tc := range []struct{ doc, strict, hard string }{
		{`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"dta":{}}`, `unknown field "dta"`, ""},
		{`{"apiVersion":"apps/v1","kind":"Deployment","spec":{"template":{"spec":{"containers":[{"imge":"x"}]}}}}`, `unknown field "spec.template.spec.containers[0].imge"`, ""},
		{`{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"1","a":"2"}}`, `duplicate field "data.a"`, ""},
		{`{"apiVersion":"apps/v1","kind":"Deployment","spec":{"replicas":"3"}}`, "", "cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"},
		{`{"apiVersion":"batch/v1","kind":"Task"}`, "", `no kind "Task" is registered for version "batch/v1"`},
		{`{"apiVersion":`, "", "unexpected end of JSON input"},
	} {
		_, strict, err := DecodeJSON([]byte(tc.doc))
		if got := errors.Join(strict...); (tc.strict == "") != (got == nil) || got != nil && got.Error() != tc.strict {
			t.Errorf("%s: strict faults %v, want %q", tc.doc, got, tc.strict)
		}
		if (tc.hard == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tc.hard) {
			t.Errorf("%s: error %v, want %q", tc.doc, err, tc.hard)
		}
	}
	if _, _, err := DecodeJSON([]byte(`{"apiVersion":"batch/v1","kind":"Task"}`)); !errors.Is(err, object.ErrUnknownKind) {
		t.Errorf("an unknown kind must be recognisable: %v", err)
	}
}

// view is a list of objects as a View.
type view []object.Object

func (v view) Get(k object.Key) (object.Object, bool) {
	for _, o := range v {
		if object.KeyOf(o) == k {
			return o, true
		}
	}
	return nil, false
}

func (v view) List(resource, ns string) iter.Seq[object.Object] {
	return slices.Values(slices.DeleteFunc(slices.Clone(v), func(o object.Object) bool {
		k := object.KeyOf(o)
		return k.Resource != resource || ns != "" && k.Namespace != ns
	}))
}

func service(ns, name, ip string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip, Type: corev1.ServiceTypeClusterIP}}
}

func TestAllocate(t *testing.T) {
	r := Ranges{Services: netip.MustParsePrefix("10.96.0.0/28")}
	var v view
	seen := map[string]bool{"10.96.0.1": true, "10.96.0.10": true}
	// A /28 has 14 addresses, two of them reserved.
	for i := range 12 {
		s := service("default", fmt.Sprintf("s%d", i), "")
		if err := Allocate(v, s, nil, r); err != nil {
			t.Fatal(err)
		}
		again := service("default", s.Name, "")
		if err := Allocate(v, again, nil, r); err != nil || again.Spec.ClusterIP != s.Spec.ClusterIP {
			t.Fatalf("the same state gave %s and %s (%v)", s.Spec.ClusterIP, again.Spec.ClusterIP, err)
		}
		if a := netip.MustParseAddr(s.Spec.ClusterIP); seen[s.Spec.ClusterIP] || !r.Services.Contains(a) || s.Spec.ClusterIPs[0] != s.Spec.ClusterIP || s.Spec.IPFamilies[0] != corev1.IPv4Protocol {
			t.Fatalf("bad or reused address %+v", s.Spec)
		}
		seen[s.Spec.ClusterIP] = true
		v = append(v, s)
	}
	if err := Allocate(v, service("default", "late", ""), nil, r); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "range is full") {
		t.Errorf("a full range must be told: %v", err)
	}
	freed := v[0].(*corev1.Service).Spec.ClusterIP
	late := service("default", "late", "")
	if err := Allocate(v[1:], late, nil, r); err != nil || late.Spec.ClusterIP != freed {
		t.Errorf("the address %s of a deleted service must be free again: %s, %v", freed, late.Spec.ClusterIP, err)
	}
	for _, tc := range []struct{ ns, name, ip, want string }{
		{"default", "kubernetes", "", ""},
		{"kube-system", "kube-dns", "10.96.0.10", ""},
		{"default", "x", "10.96.0.10", "it is kept for service/kube-system/kube-dns"},
		{"default", "x", "10.97.0.1", "failed to allocate IP 10.97.0.1: the provided network does not match the current range"},
		{"default", "x", "10.96.0.15", "is not in the valid range"},
		{"default", "x", freed, "provided IP is already allocated to service/default/s0"},
		{"default", "x", "None", ""},
	} {
		s := service(tc.ns, tc.name, tc.ip)
		err := Allocate(v, s, nil, r)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s/%s with %q: %v, want %q", tc.ns, tc.name, tc.ip, err, tc.want)
		}
		if tc.name == "kubernetes" && s.Spec.ClusterIP != "10.96.0.1" {
			t.Errorf("default/kubernetes has %s", s.Spec.ClusterIP)
		}
	}
	kept := service("default", "s0", "")
	kept.Spec.ClusterIP = freed
	if err := Allocate(v, kept, v[0], r); err != nil || kept.Spec.ClusterIP != freed {
		t.Errorf("an update must keep the address: %v %v", kept.Spec.ClusterIP, err)
	}
}

func TestPrepare(t *testing.T) {
	o, _ := decode(t, web)
	Default(o)
	o.SetUID("wrong")
	o.SetResourceVersion("7")
	o.(*appsv1.Deployment).Status.Replicas = 9
	PrepareCreate(o, "u1", now)
	d := o.(*appsv1.Deployment)
	if d.UID != "u1" || d.Generation != 1 || d.Status.Replicas != 0 || d.ResourceVersion != "" || !d.CreationTimestamp.Time.Equal(now.Truncate(time.Second)) {
		t.Errorf("creation: %+v", d.ObjectMeta)
	}
	d.Status.Replicas = 3
	up := object.Copy(d)
	up.UID, up.Status.Replicas, up.Labels = "other", 5, map[string]string{"x": "y"}
	PrepareUpdate(up, d)
	if up.UID != "u1" || up.Status.Replicas != 3 || up.Generation != 1 {
		t.Errorf("an update without a change of spec: %+v", up.ObjectMeta)
	}
	up.Spec.Paused = true
	PrepareUpdate(up, d)
	if up.Generation != 2 {
		t.Errorf("a change of spec must raise the generation: %d", up.Generation)
	}
	st := object.Copy(d)
	st.Status.Replicas, st.Spec.Paused, st.Labels = 4, true, nil
	PrepareStatusUpdate(st, d, now)
	if st.Status.Replicas != 4 || st.Spec.Paused || st.Labels["team"] != "a" {
		t.Errorf("a status update must change the status only: %+v", st)
	}
	p, _ := decode(t, "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: default}, spec: {containers: [{name: c, image: x}]}}")
	Default(p)
	PrepareCreate(p, "u2", now)
	pod := p.(*corev1.Pod)
	if pod.Status.Phase != corev1.PodPending || pod.Status.QOSClass != corev1.PodQOSBestEffort || len(pod.Spec.Tolerations) != 2 {
		t.Errorf("a new pod: %+v %+v", pod.Status, pod.Spec.Tolerations)
	}
	ns, _ := decode(t, "{apiVersion: v1, kind: Namespace, metadata: {name: team}}")
	PrepareCreate(ns, "u3", now)
	if n := ns.(*corev1.Namespace); n.Status.Phase != corev1.NamespaceActive || n.Labels["kubernetes.io/metadata.name"] != "team" || n.Spec.Finalizers[0] != "kubernetes" {
		t.Errorf("a new namespace: %+v", n)
	}
}

func TestNamespaceRules(t *testing.T) {
	gone := metav1.NewTime(now)
	v := view{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "going", DeletionTimestamp: &gone}},
	}
	for ns, want := range map[string]string{
		"default": "",
		"going":   `services "s" is forbidden: unable to create new content in namespace going because it is being terminated`,
		"none":    `namespaces "none" not found`,
	} {
		err := CheckNamespace(v, service(ns, "s", ""))
		if (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%s: %v, want %q", ns, err, want)
		}
		if ns == "going" && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			t.Error("the cause NamespaceTerminating is missing")
		}
	}
	if err := CheckNamespace(v, &corev1.Node{}); err != nil {
		t.Errorf("a node has no namespace: %v", err)
	}
	if err := CheckDelete(v[0]); err == nil || err.Error() != `namespaces "default" is forbidden: this namespace may not be deleted` {
		t.Errorf("deleting default: %v", err)
	}
	if err := CheckDelete(v[1]); err != nil {
		t.Errorf("deleting another: %v", err)
	}
	system := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "system-node-critical"}}
	if err := CheckDelete(system); err == nil || err.Error() != `priorityclasses.scheduling.k8s.io "system-node-critical" is forbidden: this is a system priority class and cannot be deleted` {
		t.Errorf("deleting a system class: %v", err)
	}
}

func TestApprovalTakesConditionsLabelsAndAnnotations(t *testing.T) {
	k, _ := object.KindOfResource("certificatesigningrequests")
	write, ok := WriteOf(k, "approval")
	if !ok {
		t.Fatal("requests have no approval")
	}
	old := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "a", Annotations: map[string]string{"was": "1"}}}
	old.Spec.SignerName, old.Status.Certificate = "example.com/a", []byte("certificate")
	o := old.DeepCopy()
	o.Annotations, o.Labels = map[string]string{"is": "1"}, map[string]string{"l": "1"}
	o.Spec.SignerName, o.Status.Certificate = "example.com/b", nil
	o.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: "Approved", Status: corev1.ConditionTrue}}
	write.Prepare(o, old, now)
	stamp := metav1.NewTime(now.Truncate(time.Second))
	want := old.DeepCopy()
	want.Annotations, want.Labels = o.Annotations, map[string]string{"l": "1"}
	want.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: "Approved", Status: corev1.ConditionTrue,
		LastUpdateTime: stamp, LastTransitionTime: stamp}}
	if o.Annotations["is"] != "1" || o.Annotations["was"] != "" || !equality.Semantic.DeepEqual(o, want) {
		t.Fatalf("got %+v, want %+v", o, want)
	}
}

func TestNodeStatusKeepsLabels(t *testing.T) {
	old := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"mine": "x", "kubernetes.io/os": "old"}}}
	old.Spec.PodCIDR = "10.244.0.0/24"
	o := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"kubernetes.io/os": "linux"}}}
	o.Status.NodeInfo.KernelVersion = "6"
	PrepareStatusUpdate(o, old, now)
	if o.Labels["mine"] != "x" || o.Labels["kubernetes.io/os"] != "linux" || o.Spec.PodCIDR == "" || o.Status.NodeInfo.KernelVersion != "6" || old.Labels["kubernetes.io/os"] != "old" {
		t.Errorf("%+v %+v", o, old.Labels)
	}
}

func BenchmarkAdmit(b *testing.B) {
	o, _ := decode(b, web)
	b.Run("default+validate", func(b *testing.B) {
		for b.Loop() {
			c := object.Copy(o)
			Default(c)
			if errs := Validate(c, nil); len(errs) > 0 {
				b.Fatal(errs)
			}
		}
	})
	live, set := decode(b, web)
	Default(live)
	if err := SetGitOwned(live, Owner{Source: "cluster", Commit: "c1", File: "web.yaml:1"}, set, now); err != nil {
		b.Fatal(err)
	}
	b.Run("own", func(b *testing.B) {
		for b.Loop() {
			if err := SetGitOwned(object.Copy(live), Owner{Source: "cluster", Commit: "c2", File: "web.yaml:1"}, set, now); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("merge", func(b *testing.B) {
		for b.Loop() {
			if _, err := MergeGit(live, set); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("conflicts", func(b *testing.B) {
		for b.Loop() {
			if _, err := GitOwnedConflicts(live, live); err != nil {
				b.Fatal(err)
			}
		}
	})
}
