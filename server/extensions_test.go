package server

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/explain"
	"reconcile/internal/loopback"
	"reconcile/object"
	"reconcile/scheduler"
	"reconcile/sequencer"
)

// TestExtensions: a server whose program has a plugin of its own places, forecasts and explains with it.
func TestExtensions(t *testing.T) {
	odd := &scheduler.Extension{Name: "OddNodes", Filter: func(_ *corev1.Pod, n *corev1.Node) string {
		if strings.HasSuffix(n.Name, "1") {
			return ""
		}
		return "node(s) were even"
	}}
	s := start(t, t.TempDir(), loopback.Address(), "", func(c *Config) { c.Extensions = []*scheduler.Extension{odd} })
	eventually(t, "kube-system is there", func() (bool, string) {
		_, err := s.client.CoreV1().Namespaces().Get(t.Context(), "kube-system", metav1.GetOptions{})
		return err == nil, ""
	})
	profile := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: scheduler.ProfilesKey.Name}, Data: map[string]string{"odd": "extensions: [OddNodes]"}}
	if _, err := s.client.CoreV1().ConfigMaps("kube-system").Create(t.Context(), profile, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	addNode(t, s.client, "n1")
	addNode(t, s.client, "n2")
	d := deployment("web", 4)
	d.Spec.Template.Spec.SchedulerName = "odd"
	d.Namespace = "default"
	out, err := s.seq.Forecast(t.Context(), sequencer.Request{User: "test", Ops: []sequencer.Op{{Verb: sequencer.Create, Key: object.KeyOf(d), Object: d.DeepCopy()}}})
	if err != nil || len(out.Settled.Placements) != 4 {
		t.Fatalf("forecast: %d placements, %v", len(out.Settled.Placements), err)
	}
	for _, p := range out.Settled.Placements {
		if p.Node != "n1" {
			t.Errorf("the forecast has %s on %s", p.Pod, p.Node)
		}
	}
	if _, err := s.client.AppsV1().Deployments("default").Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	bound(t, s.client, "web", 4)
	pods, err := s.client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range pods.Items {
		if p := &pods.Items[i]; p.Spec.NodeName != "n1" {
			t.Errorf("%s is on %s", p.Name, p.Spec.NodeName)
		}
	}
	raw, err := s.client.RESTClient().Get().AbsPath("/reconcile/v1/explain/pods/default/" + pods.Items[0].Name).DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var why explain.Pod
	if err := json.Unmarshal(raw, &why); err != nil || len(why.Nodes) != 2 || !why.Nodes[0].Fits || why.Nodes[1].Plugin != "OddNodes" || why.Nodes[1].Reasons[0] != "node(s) were even" {
		t.Errorf("explained as %s, %v", raw, err)
	}
}
