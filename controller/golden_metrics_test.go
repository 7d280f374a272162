package controller_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/datadriven"
	kresource "k8s.io/apimachinery/pkg/api/resource"

	"reconcile/controller"
	"reconcile/object"
)

// served is what a pod tells of itself.
type served struct {
	values map[object.MetricQuery]int64
	fault  string
}

// asked is a recorder that knows what pods tell of themselves.
type asked struct{ measured }

func (a *asked) Metric(pod object.Key, q object.MetricQuery) (object.MetricValue, string, bool) {
	s := a.w.served[pod]
	v, ok := s.values[q]
	return object.MetricValue{At: a.w.now, Milli: v}, s.fault, ok
}

// serve says what each pod of an owner tells of itself from now on: "serve APP requests=12 selector=(path=buy) fault=refused". With n=1
// only the first pods tell anything.
func (w *world) serve(d *datadriven.TestData) error {
	if w.served == nil {
		w.served = map[object.Key]served{}
	}
	left, err := strconv.Atoi(val(d, "n", "1000"))
	if err != nil {
		return err
	}
	for o := range w.state.List("pods", "default") {
		if o.GetLabels()["app"] != d.CmdArgs[0].Key {
			continue
		}
		key := object.KeyOf(o)
		delete(w.served, key)
		if left == 0 {
			continue
		}
		left--
		s := served{values: map[object.MetricQuery]int64{}, fault: val(d, "fault", "")}
		for _, a := range d.CmdArgs[1:] {
			if a.Key == "n" || a.Key == "fault" || a.Key == "selector" {
				continue
			}
			q, err := kresource.ParseQuantity(a.Vals[0])
			if err != nil {
				return err
			}
			s.values[object.MetricQuery{Name: a.Key, Selector: val(d, "selector", "")}] = q.MilliValue()
		}
		w.served[key] = s
	}
	return nil
}

// showWanted prints what agents are to ask pods for: how many pods of which node for what.
func (w *world) showWanted(b *strings.Builder) {
	wanted := controller.WantedMetrics(w.state)
	for _, node := range slices.Sorted(maps.Keys(wanted)) {
		count := map[string]int{}
		for _, q := range wanted[node] {
			o, _ := w.state.Get(object.Key{Resource: "pods", Namespace: q.Namespace, Name: q.Name})
			asked := fmt.Sprintf("%s for %v", o.GetLabels()["app"], q.Queries)
			if len(q.Perhaps) > 0 {
				asked += fmt.Sprintf(" perhaps %v", q.Perhaps)
			}
			count[asked]++
		}
		for _, line := range slices.Sorted(maps.Keys(count)) {
			fmt.Fprintf(b, "%s: %d %s\n", node, count[line], line)
		}
	}
}
