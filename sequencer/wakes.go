package sequencer

import (
	"time"

	"github.com/google/btree"

	"reconcile/controller"
)

// wakes are the times at which triggers are due. Of several of one trigger the earliest is kept.
type wakes struct {
	at    map[controller.Trigger]time.Time
	order *btree.BTreeG[controller.Wake]
}

func newWakes() *wakes {
	return &wakes{at: map[controller.Trigger]time.Time{}, order: btree.NewG(8, func(a, b controller.Wake) bool {
		if !a.At.Equal(b.At) {
			return a.At.Before(b.At)
		}
		if a.Trigger.Controller != b.Trigger.Controller {
			return a.Trigger.Controller < b.Trigger.Controller
		}
		return a.Trigger.Key.Compare(b.Trigger.Key) < 0
	})}
}

func (w *wakes) add(list []controller.Wake) {
	for _, k := range list {
		if at, ok := w.at[k.Trigger]; ok {
			if !k.At.Before(at) {
				continue
			}
			w.order.Delete(controller.Wake{Trigger: k.Trigger, At: at})
		}
		w.at[k.Trigger] = k.At
		w.order.ReplaceOrInsert(k)
	}
}

// next is when the earliest is due.
func (w *wakes) next() (time.Time, bool) {
	k, ok := w.order.Min()
	return k.At, ok
}

// due takes off what is due at now.
func (w *wakes) due(now time.Time) []controller.Trigger {
	var out []controller.Trigger
	for {
		k, ok := w.order.Min()
		if !ok || k.At.After(now) {
			return out
		}
		w.order.DeleteMin()
		delete(w.at, k.Trigger)
		out = append(out, k.Trigger)
	}
}
