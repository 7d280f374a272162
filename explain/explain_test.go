package explain_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"reconcile/admission"
	"reconcile/controller/memview"
	"reconcile/explain"
	"reconcile/object"
)

// state is a View of the documents, which stand one a line.
func state(t *testing.T, docs string) *memview.State {
	t.Helper()
	v := memview.New()
	for i, doc := range strings.Split(strings.TrimSpace(docs), "\n") {
		if doc == "" {
			continue
		}
		j, err := yaml.YAMLToJSON([]byte(doc))
		if err != nil {
			t.Fatalf("%s: %v", doc, err)
		}
		o, strict, err := admission.DecodeJSON(j)
		if err != nil || len(strict) > 0 {
			t.Fatalf("%s: %v %v", doc, strict, err)
		}
		if k, err := object.KindOfObject(o); err == nil && k.Namespaced && o.GetNamespace() == "" {
			o.SetNamespace("default")
		}
		admission.Default(o)
		if o.GetUID() == "" {
			o.SetUID(types.UID(fmt.Sprint(i)))
		}
		v.Put(o)
	}
	return v
}

func podOf(t *testing.T, v *memview.State, name string) *corev1.Pod {
	t.Helper()
	o, ok := v.Get(object.Key{Resource: "pods", Namespace: "default", Name: name})
	if !ok {
		t.Fatalf("no pod %s", name)
	}
	return o.(*corev1.Pod)
}

const nodes = `
{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {conditions: [{type: Ready, status: "True"}], allocatable: {cpu: 2, memory: 4Gi, pods: 110}}}
{apiVersion: v1, kind: Node, metadata: {name: n2}, status: {conditions: [{type: Ready, status: "True"}], allocatable: {cpu: 1, memory: 4Gi, pods: 110}}}
`

// TestOfPod tells for what a pod without a node waits, and what the nodes say where the scheduler looks at it.
func TestOfPod(t *testing.T) {
	v := state(t, nodes+`
{apiVersion: v1, kind: ConfigMap, metadata: {name: scheduler-profiles, namespace: kube-system}, data: {packed: 'scoringStrategy: MostAllocated', broken: 'scoringStrategy: Nope'}}
{apiVersion: v1, kind: Pod, metadata: {name: runs}, spec: {nodeName: n1, containers: [{name: c, image: i}]}}
{apiVersion: v1, kind: Pod, metadata: {name: other}, spec: {schedulerName: mine, containers: [{name: c, image: i}]}}
{apiVersion: v1, kind: Pod, metadata: {name: unread}, spec: {schedulerName: broken, containers: [{name: c, image: i}]}}
{apiVersion: v1, kind: Pod, metadata: {name: packed}, spec: {schedulerName: packed, containers: [{name: c, image: i}]}}
{apiVersion: v1, kind: Pod, metadata: {name: gated}, spec: {schedulingGates: [{name: example.com/a}, {name: example.com/b}], containers: [{name: c, image: i}]}}
{apiVersion: v1, kind: Pod, metadata: {name: low}, spec: {nodeName: n1, priority: 1, containers: [{name: c, image: i, resources: {requests: {cpu: 2}}}]}}
{apiVersion: v1, kind: Pod, metadata: {name: going, deletionTimestamp: "2026-01-01T00:00:00Z"}, spec: {nodeName: n2, priority: 1, containers: [{name: c, image: i, resources: {requests: {cpu: 1}}}]}}
{apiVersion: v1, kind: Pod, metadata: {name: nominated}, spec: {priority: 10, containers: [{name: c, image: i, resources: {requests: {cpu: 1}}}]}, status: {nominatedNodeName: n2}}
{apiVersion: v1, kind: Pod, metadata: {name: large}, spec: {priority: 10, containers: [{name: c, image: i, resources: {requests: {cpu: 2}}}]}}
{apiVersion: v1, kind: Pod, metadata: {name: ended}, spec: {containers: [{name: c, image: i}]}, status: {phase: Failed}}
`)
	for _, c := range []struct {
		pod   string
		waits string // the first
		fits  string // nodes with room, and those that refuse
		evict string
	}{
		{pod: "runs", fits: "n1+ n2+"},
		{pod: "other", waits: "spec.schedulerName is mine, and this cluster's profiles are default-scheduler, packed: the program of that name must bind the pod, or configmap/kube-system/scheduler-profiles get such a profile"},
		{pod: "unread", waits: `the scheduler profile broken of configmap/kube-system/scheduler-profiles is left out, and pods with that schedulerName wait: `},
		{pod: "packed", fits: "n1+ n2+"},
		{pod: "gated", waits: "spec.schedulingGates has example.com/a, example.com/b: the scheduler looks at the pod when the last gate is removed", fits: "n1+ n2+"},
		{pod: "nominated", waits: "it is nominated to node n2, and waits there until these have ended: default/going", fits: "n1- n2-"},
		{pod: "large", fits: "n1- n2-", evict: "n1: default/low"},
		{pod: "ended"},
	} {
		got := explain.OfPod(v, podOf(t, v, c.pod))
		waits := strings.Join(got.Waits, "; ")
		if c.pod == "unread" {
			waits = waits[:min(len(waits), len(c.waits))]
		}
		var fits, evict []string
		for _, n := range got.Nodes {
			fits = append(fits, n.Node+map[bool]string{true: "+", false: "-"}[n.Fits])
		}
		for _, e := range got.Evictions {
			evict = append(evict, e.Node+": "+strings.Join(e.Pods, " "))
		}
		if waits != c.waits || strings.Join(fits, " ") != c.fits || strings.Join(evict, "; ") != c.evict {
			t.Errorf("%s: waits %q, nodes %v, evictions %v; want %q, %q, %q", c.pod, waits, fits, evict, c.waits, c.fits, c.evict)
		}
	}
}

// TestOfNode tells of a node's pods which go where, which a drain would wait for, which nobody makes anew and which are daemons.
func TestOfNode(t *testing.T) {
	owner := func(kind string) string {
		return fmt.Sprintf("ownerReferences: [{apiVersion: apps/v1, kind: %s, name: o, uid: u%s, controller: true}]", kind, kind)
	}
	v := state(t, nodes+`
{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: web}, spec: {selector: {matchLabels: {app: web}}}, status: {disruptionsAllowed: 1, currentHealthy: 2, desiredHealthy: 1, expectedPods: 2}}
{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: a}, spec: {selector: {matchLabels: {app: db}}}, status: {disruptionsAllowed: 1, currentHealthy: 2, desiredHealthy: 1, expectedPods: 2}}
{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: b}, spec: {selector: {matchLabels: {app: db}}}, status: {disruptionsAllowed: 1, currentHealthy: 2, desiredHealthy: 1, expectedPods: 2}}
{apiVersion: v1, kind: Pod, metadata: {name: web-1, labels: {app: web}, `+owner("ReplicaSet")+`}, spec: {nodeName: n1, containers: [{name: c, image: i}]}}
{apiVersion: v1, kind: Pod, metadata: {name: web-2, labels: {app: web}, `+owner("ReplicaSet")+`}, spec: {nodeName: n1, containers: [{name: c, image: i, resources: {requests: {cpu: 2}}}]}}
{apiVersion: v1, kind: Pod, metadata: {name: db-0, labels: {app: db}, `+owner("StatefulSet")+`}, spec: {nodeName: n1, containers: [{name: c, image: i}]}}
{apiVersion: v1, kind: Pod, metadata: {name: agent, `+owner("DaemonSet")+`}, spec: {nodeName: n1, affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [n1]}]}]}}}, containers: [{name: c, image: i}]}}
{apiVersion: v1, kind: Pod, metadata: {name: bare}, spec: {nodeName: n1, containers: [{name: c, image: i}]}}
{apiVersion: v1, kind: Pod, metadata: {name: ended}, spec: {nodeName: n1, containers: [{name: c, image: i}]}, status: {phase: Succeeded}}
{apiVersion: v1, kind: Pod, metadata: {name: elsewhere}, spec: {nodeName: n2, containers: [{name: c, image: i}]}}
`)
	got, ok := explain.OfNode(v, "n1")
	if !ok {
		t.Fatal("there is no n1")
	}
	for i := range got.Moves {
		if got.Moves[i].Node == "" {
			got.Moves[i].Message = strings.SplitN(got.Moves[i].Message, ".", 2)[0]
		}
	}
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"moves":[{"pod":"default/db-0","node":"n2","held":"2 PodDisruptionBudgets select it, and then nobody evicts it","stays":true},` +
		`{"pod":"default/web-1","node":"n2"},` +
		`{"pod":"default/web-2","message":"0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable","held":"poddisruptionbudget/web lets 1 go at a time"}],` +
		`"gone":["default/bare"],"daemons":["default/agent"]}`
	if string(b) != want {
		t.Errorf("got\n%s\nwant\n%s", b, want)
	}
	if _, ok := explain.OfNode(v, "n9"); ok {
		t.Error("there is a node n9")
	}
}

// TestOfNodePreempts tells whose places pods of a higher priority would take.
func TestOfNodePreempts(t *testing.T) {
	const owned = "ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: o, uid: u, controller: true}]"
	v := state(t, nodes+`
{apiVersion: v1, kind: Pod, metadata: {name: urgent, `+owned+`}, spec: {priority: 9, nodeName: n1, containers: [{name: c, image: i, resources: {requests: {cpu: 1}}}]}}
{apiVersion: v1, kind: Pod, metadata: {name: cheap, `+owned+`}, spec: {priority: 1, nodeName: n2, containers: [{name: c, image: i, resources: {requests: {cpu: 800m}}}]}}
`)
	got, _ := explain.OfNode(v, "n1")
	if len(got.Moves) != 1 || got.Moves[0].Node != "" || got.Moves[0].Nominated != "n2" || !slices.Equal(got.Moves[0].Victims, []string{"default/cheap"}) {
		t.Errorf("got %+v", got.Moves)
	}
}

// TestOfCluster proposes moves off a full node, and names profiles that cannot be read.
func TestOfCluster(t *testing.T) {
	docs := nodes + "{apiVersion: v1, kind: ConfigMap, metadata: {name: scheduler-profiles, namespace: kube-system}, data: {broken: 'scoringStrategy: Nope'}}\n"
	for i := range 4 {
		docs += fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: p%d, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: o, uid: u, controller: true}]}, spec: {nodeName: n2, containers: [{name: c, image: i, resources: {requests: {cpu: 250m}}}]}}\n", i)
	}
	got := explain.OfCluster(state(t, docs), 20, 10)
	if len(got.Moves) == 0 || got.Moves[0].From != "n2" || got.Moves[0].To != "n1" || got.Moves[0].Gain < 20 || !strings.Contains(got.Warning, "broken") {
		t.Errorf("got %+v", got)
	}
}
