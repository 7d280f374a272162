package node

import (
	"context"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// kept is a Sink that keeps the names of what is made.
type kept struct {
	Sink
	names []string
}

func (k *kept) Create(_ context.Context, o object.Object) (object.Object, error) {
	k.names = append(k.names, o.GetName())
	return o, nil
}

// TestOrderOfEvents: events of one second, and of one instant, are listed in the order in which they came, which is that of their names, and behind
// those of the scheduler, whose names go on with a zero.
func TestOrderOfEvents(t *testing.T) {
	sink := &kept{}
	e := newEvents(&Agent{cfg: Config{Sink: sink}})
	now := time.Now()
	for i, reason := range []string{"Pulling", "Pulled", "Created", "Started", "Killing"} {
		ev := &corev1.Event{InvolvedObject: corev1.ObjectReference{Name: "p"}, Reason: reason, FirstTimestamp: metav1.NewTime(now.Add(time.Duration(i/2) * time.Millisecond))}
		if err := e.write(t.Context(), ev); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.IsSorted(sink.names) || len(slices.Compact(slices.Clone(sink.names))) != 5 || sink.names[0] < "p.0ffffffffffffffff" {
		t.Errorf("the names are %q", sink.names)
	}
}
