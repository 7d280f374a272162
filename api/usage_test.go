package api_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	metrics "k8s.io/metrics/pkg/client/clientset/versioned"

	"reconcile/api"
	"reconcile/api/apitest"
	"reconcile/object"
)

// used is what pods and nodes use; the rest was not measured.
type used map[string]string

func (u used) Usage(pod object.Key) (object.Usage, bool) { return u.of(pod.Name, "c") }
func (u used) Node(name string) (object.Usage, bool)     { return u.of(name, "") }

func (u used) of(name, container string) (object.Usage, bool) {
	cpu, ok := u[name]
	if !ok {
		return object.Usage{}, false
	}
	return object.Usage{At: time.Unix(1000, 0), Window: 15 * time.Second, Containers: map[string]corev1.ResourceList{container: {"cpu": kresource.MustParse(cpu), "memory": kresource.MustParse("3Mi")}}}, true
}

// TestUsage asks metrics.k8s.io with its own client: what was measured of the pods and nodes that there are, by name, namespace and label.
func TestUsage(t *testing.T) {
	t.Parallel()
	store := apitest.New()
	var broken atomic.Bool
	s := apitest.Start(t, store, func(c *api.Config) {
		c.Usage = func(context.Context) (api.Usage, error) {
			if broken.Load() {
				return nil, errors.New("the leader is away")
			}
			return used{"a": "100m", "b": "200m", "gone": "1", "n1": "1500m"}, nil
		}
	})
	for name, app := range map[string]string{"a": "web", "b": "db", "unmeasured": "web"} {
		p := pod(name, "n1")
		p.Labels = map[string]string{"app": app}
		store.Put(p)
	}
	store.Put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
	cfg, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	c, err := metrics.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m, ctx := c.MetricsV1beta1(), t.Context()
	for what, tc := range map[string]struct {
		namespace string
		opts      metav1.ListOptions
		want      string
	}{
		"all":               {"", metav1.ListOptions{}, "a=100m b=200m"},
		"a namespace":       {"default", metav1.ListOptions{}, "a=100m b=200m"},
		"another":           {"kube-system", metav1.ListOptions{}, ""},
		"by label":          {"default", metav1.ListOptions{LabelSelector: "app=web"}, "a=100m"},
		"by name":           {"default", metav1.ListOptions{FieldSelector: "metadata.name=b"}, "b=200m"},
		"a label of nobody": {"default", metav1.ListOptions{LabelSelector: "app=x"}, ""},
	} {
		list, err := m.PodMetricses(tc.namespace).List(ctx, tc.opts)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		var got []string
		for _, p := range list.Items {
			got = append(got, p.Name+"="+p.Containers[0].Usage.Cpu().String())
		}
		if have := strings.Join(got, " "); have != tc.want {
			t.Errorf("%s: %q, want %q", what, have, tc.want)
		}
	}
	one, err := m.PodMetricses("default").Get(ctx, "a", metav1.GetOptions{})
	if err != nil || one.Labels["app"] != "web" || one.Window.Duration != 15*time.Second || one.Timestamp.Unix() != 1000 || one.Containers[0].Name != "c" || one.Containers[0].Usage.Memory().String() != "3Mi" {
		t.Errorf("one pod: %+v, %v", one, err)
	}
	for _, name := range []string{"unmeasured", "gone"} {
		if _, err := m.PodMetricses("default").Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) || !strings.Contains(err.Error(), `podmetrics.metrics.k8s.io "default/`+name+`" not found`) {
			t.Errorf("%s: %v", name, err)
		}
	}
	nodes, err := m.NodeMetricses().List(ctx, metav1.ListOptions{})
	if err != nil || len(nodes.Items) != 1 || nodes.Items[0].Usage.Cpu().String() != "1500m" {
		t.Errorf("nodes: %+v, %v", nodes, err)
	}
	if _, err := m.NodeMetricses().Get(ctx, "n2", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a node that is not there: %v", err)
	}
	if err := c.MetricsV1beta1().RESTClient().Delete().Namespace("default").Resource("pods").Name("a").Do(ctx).Error(); !apierrors.IsMethodNotSupported(err) {
		t.Errorf("what is measured was deleted: %v", err)
	}
	broken.Store(true)
	if _, err := m.NodeMetricses().List(ctx, metav1.ListOptions{}); !apierrors.IsServiceUnavailable(err) {
		t.Errorf("without a leader: %v", err)
	}
}
