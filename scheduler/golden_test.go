package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"reconcile/object"
)

// TestGolden plays transcripts: `nodes`, `running` and `objects` (YAML) say what there is, `schedule` places pods and keeps them, `explain` asks about one.
// Pods are written as `NAME [x=COUNT] [cpu=] [memory=] [app=] [priority=]` or with labels (KEY/NAME=), with the rest of their spec as YAML after a line ---;
// what a node offers more is written as +RESOURCE=, what it has of images as image:NAME=BYTES.
func TestGolden(t *testing.T) {
	datadriven.Walk(t, "testdata/golden", func(t *testing.T, path string) {
		c := &cluster{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "nodes":
				for line := range strings.Lines(d.Input) {
					c.nodes = append(c.nodes, nodeLine(t, line))
				}
				return ""
			case "running":
				c.pods = append(c.pods, podLines(t, d.Input)...)
				return ""
			case "objects":
				for doc := range strings.SplitSeq(d.Input, "---\n") {
					c.more = append(c.more, objectOf(t, doc))
				}
				return ""
			case "schedule":
				return c.schedule(podLines(t, d.Input))
			case "explain":
				return explainText(Explain(c, podLines(t, d.Input)[0]))
			}
			t.Fatalf("%s: no such command", d.Cmd)
			return ""
		})
	})
}

func objectOf(t *testing.T, doc string) object.Object {
	var head metav1.TypeMeta
	if err := yaml.Unmarshal([]byte(doc), &head); err != nil {
		t.Fatal(err)
	}
	o, err := object.Scheme().New(head.GroupVersionKind())
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict([]byte(doc), o); err != nil {
		t.Fatal(err)
	}
	return o.(object.Object)
}

func fields(t *testing.T, line string) (string, map[string]string) {
	words := strings.Fields(line)
	if len(words) == 0 {
		t.Fatal("an empty line")
	}
	out := map[string]string{}
	for _, w := range words[1:] {
		k, v, _ := strings.Cut(w, "=")
		out[k] = v
	}
	return words[0], out
}

func nodeLine(t *testing.T, line string) *corev1.Node {
	name, f := fields(t, line)
	n := node(name, f["cpu"], f["memory"], 10)
	for k, v := range f {
		switch k {
		case "cpu", "memory":
		case "taint":
			key, effect, _ := strings.Cut(v, ":")
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffect(effect)})
		case "zone":
			n.Labels[corev1.LabelTopologyZone] = v
		default:
			if r, ok := strings.CutPrefix(k, "+"); ok {
				n.Status.Allocatable[corev1.ResourceName(r)] = resource.MustParse(v)
			} else if image, ok := strings.CutPrefix(k, "image:"); ok {
				size := resource.MustParse(v)
				n.Status.Images = append(n.Status.Images, corev1.ContainerImage{Names: []string{image}, SizeBytes: size.Value()})
			} else {
				n.Labels[k] = v
			}
		}
	}
	return n
}

func podLines(t *testing.T, input string) (out []*corev1.Pod) {
	lines, spec, _ := strings.Cut(input, "---\n")
	for line := range strings.Lines(lines) {
		name, f := fields(t, line)
		count := 1
		if f["x"] != "" {
			fmt.Sscan(f["x"], &count)
		}
		for i := range count {
			p := running(name, f["on"], "", 0, i)
			if f["x"] != "" {
				p.Name = fmt.Sprintf("%s%d", name, i)
			}
			q := pod("", 0, f["cpu"], f["memory"])
			p.Spec.Containers = q.Spec.Containers
			p.Labels = map[string]string{"app": f["app"]}
			for k, v := range f {
				if strings.Contains(k, "/") {
					p.Labels[k] = v
				}
			}
			if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
				t.Fatal(err)
			}
			priority := int32(0)
			fmt.Sscan(f["priority"], &priority)
			p.Spec.Priority = &priority
			out = append(out, p)
		}
	}
	return out
}

// schedule prints decisions, and keeps what was placed.
func (c *cluster) schedule(pods []*corev1.Pod) string {
	var out strings.Builder
	for _, d := range NewSnapshot(c).Schedule(pods) {
		switch {
		case d.Node != "":
			p := *d.Pod
			p.Spec.NodeName = d.Node
			c.pods = append(c.pods, &p)
			fmt.Fprintf(&out, "%s -> %s\n", d.Pod.Name, d.Node)
		case d.Nominated != "":
			fmt.Fprintf(&out, "%s waits for %s without %s: %s\n", d.Pod.Name, d.Nominated, podNames(d.Victims), d.Message)
		default:
			fmt.Fprintf(&out, "%s: %s\n", d.Pod.Name, d.Message)
		}
	}
	return out.String()
}

func explainText(list []Verdict) string {
	var out strings.Builder
	for _, v := range list {
		if !v.Fits {
			fmt.Fprintf(&out, "%s refused by %s: %s\n", v.Node, v.Plugin, strings.Join(slices.Concat(v.Reasons, v.Detail), "; "))
			continue
		}
		fmt.Fprintf(&out, "%s scores %d:", v.Node, v.Score)
		for _, s := range v.Scores {
			fmt.Fprintf(&out, " %s %d*%d", s.Plugin, s.Weight, s.Score)
		}
		out.WriteString("\n")
	}
	return out.String()
}
