package node_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// TestPodMetrics: the agent asks pods where their annotations say, and tells of each that it was asked about why there is nothing.
func TestPodMetrics(t *testing.T) {
	l := newLab(t)
	web := container("web", "serve", "8080")
	web.Env = []corev1.EnvVar{{Name: "TOLD", Value: "# TYPE jobs gauge\njobs{queue=\"a\"} 4\njobs{queue=\"b\"} 3.5\nrequests_total 12\n"}}
	open := pod("open", web)
	open.Annotations = map[string]string{object.AnnotationScrape: "true", object.AnnotationScrapePort: "8080", object.AnnotationScrapePath: "/env/TOLD"}
	l.server.Put(open)
	l.server.Put(pod("closed", container("web", "serve", "8080")))
	l.ready("open")
	l.ready("closed")
	all := []object.MetricQuery{{Name: "jobs"}, {Name: "jobs", Selector: "queue=b"}, {Name: "requests"}, {Name: "none"}}
	ask := func() []object.PodSamples {
		return l.agent.PodMetrics(t.Context(), []object.PodQuery{{Namespace: "default", Name: "open", Queries: all}, {Namespace: "default", Name: "closed", Queries: all}, {Namespace: "default", Name: "gone", Queries: all}})
	}
	l.eventually("the pod's address has come back from the server", func() bool { return ask()[0].Fault == "" })
	got := ask()
	want := []object.Sample{{MetricQuery: all[0], Value: 7.5}, {MetricQuery: all[1], Value: 3.5}, {MetricQuery: all[2], Counter: true, Value: 12}}
	if s := got[0]; len(s.Samples) != 3 || s.Samples[0] != want[0] || s.Samples[1] != want[1] || s.Samples[2] != want[2] || s.At.IsZero() {
		t.Errorf("told %+v, want %+v", s, want)
	}
	if f := got[1].Fault; !strings.Contains(f, object.AnnotationScrape) || got[1].Name != "closed" {
		t.Errorf("a pod without the annotation was asked: %+v", got[1])
	}
	if f := got[2].Fault; f != "it is not on this node" {
		t.Errorf("a pod of another node: %+v", got[2])
	}
}
