package node

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// shelf is a Source that has every Secret.
type shelf struct{}

func (shelf) Follow(ctx context.Context, _ object.Selection, _ object.Receiver) error {
	<-ctx.Done()
	return ctx.Err()
}

func (shelf) Get(context.Context, object.Key) (object.Object, error) { return &corev1.Secret{}, nil }

// TestObjectsAreForgotten reads Secrets of pods that come and go: the agent's memory must not hold all that ever were.
func TestObjectsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &objects{src: shelf{}, m: map[object.Key]*cached{}}
		for i := range 4 * 256 {
			if _, err := o.Secret(t.Context(), "default", fmt.Sprint("s", i)); err != nil {
				t.Fatal(err)
			}
			time.Sleep((10 * time.Minute) / 256)
		}
		if n := len(o.m); n > 2*256 {
			t.Errorf("%d objects are kept", n)
		}
	})
}
