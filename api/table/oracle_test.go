package table

import (
	"bytes"
	"fmt"
	"math/rand"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	_ "k8s.io/kubernetes/pkg/apis/certificates/install"
	_ "k8s.io/kubernetes/pkg/apis/coordination/install"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	_ "k8s.io/kubernetes/pkg/apis/discovery/install"
	_ "k8s.io/kubernetes/pkg/apis/events/install"
	_ "k8s.io/kubernetes/pkg/apis/flowcontrol/install"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	_ "k8s.io/kubernetes/pkg/apis/node/install"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	_ "k8s.io/kubernetes/pkg/apis/rbac/install"
	_ "k8s.io/kubernetes/pkg/apis/scheduling/install"
	_ "k8s.io/kubernetes/pkg/apis/storage/install"
	kprinters "k8s.io/kubernetes/pkg/printers"
	printersinternal "k8s.io/kubernetes/pkg/printers/internalversion"
	"sigs.k8s.io/yaml"

	"reconcile/object"
)

// noColumns are the kinds for which Kubernetes' printers have none, or that its API server does not use: it shows their name and age in UTC.
var noColumns = map[string]bool{"clusterroles": true, "roles": true, "limitranges": true, "csistoragecapacities": true, "commits": true}

// TestRowsAsKubernetesPrints holds every kind's columns and cells against Kubernetes' own printers: for the corpus of good objects
// with a few statuses, and for objects filled at random.
func TestRowsAsKubernetesPrints(t *testing.T) {
	oracle := kprinters.NewTableGenerator().With(printersinternal.AddHandlers)
	codecs := serializer.NewCodecFactory(object.Scheme())
	good := corpus(t)
	for _, k := range object.Kinds() {
		if noColumns[k.Resource] {
			continue
		}
		t.Run(k.Resource, func(t *testing.T) {
			objects := good[k.Resource]
			for seed := range int64(60) {
				o := k.New()
				fuzzer.FuzzerFor(metafuzzer.Funcs, rand.NewSource(seed), codecs).Fill(o)
				objects = append(objects, o)
			}
			for _, o := range objects {
				o.GetObjectKind().SetGroupVersionKind(k.GVK)
				if s, ok := o.(*corev1.Secret); ok {
					s.StringData = nil // it is never stored
				}
				o.SetCreationTimestamp(metav1.NewTime(time.Now().Add(-36 * time.Hour)))
				compareRow(t, oracle, k, o)
			}
		})
	}
}

func compareRow(t *testing.T, oracle *kprinters.HumanReadableGenerator, k object.Kind, o object.Object) {
	t.Helper()
	in, err := legacyscheme.Scheme.ConvertToVersion(o, runtime.InternalGroupVersioner)
	if err != nil {
		t.Fatalf("convert: %v", err)
	}
	want, err := oracle.GenerateTable(in, kprinters.GenerateOptions{Wide: true})
	if err != nil {
		t.Fatal(err)
	}
	p := For(k.Resource)
	var have, must []string
	for _, c := range p.Definitions() {
		have = append(have, c.Name+" "+c.Type+" "+c.Format+" "+fmt.Sprint(c.Priority))
	}
	for _, c := range want.ColumnDefinitions {
		must = append(must, c.Name+" "+c.Type+" "+c.Format+" "+fmt.Sprint(c.Priority))
	}
	if k.Resource == "ipaddresses" {
		// Kubernetes fills in the age and names no column for it.
		must = append(must, "Age string  0")
	}
	if d := cmp.Diff(must, have); d != "" {
		t.Fatalf("columns: %s", d)
	}
	if len(want.Rows) == 0 {
		return
	}
	if d := cmp.Diff(want.Rows[0].Cells, p.Row(o, time.Now())); d != "" {
		j, _ := yaml.Marshal(o)
		t.Fatalf("cells: %s\nof %.3000s", d, j)
	}
}

// corpus is the good objects of every kind, by resource.
func corpus(t *testing.T) map[string][]object.Object {
	t.Helper()
	b, err := os.ReadFile("../../admission/testdata/kinds.yaml")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]object.Object{}
	for _, doc := range bytes.Split(b, []byte("\n---\n")) {
		var meta metav1.TypeMeta
		if err := yaml.Unmarshal(doc, &meta); err != nil {
			t.Fatal(err)
		}
		k, ok := object.KindOf(meta.GroupVersionKind())
		if !ok || !k.IsStored() {
			continue
		}
		o := k.New()
		if err := yaml.Unmarshal(doc, o); err != nil {
			t.Fatal(err)
		}
		out[k.Resource] = append(out[k.Resource], o)
	}
	return out
}
