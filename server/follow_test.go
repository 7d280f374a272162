package server

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"reconcile/client"
	"reconcile/internal/loopback"
	"reconcile/object"
	"reconcile/pki"
)

// names is a receiver that keeps the keys it has been told.
type names struct {
	mu   sync.Mutex
	keys map[object.Key]bool
}

func (n *names) Replace(all []object.Object) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.keys = map[object.Key]bool{}
	for _, o := range all {
		n.keys[object.KeyOf(o)] = true
	}
}

func (n *names) Upsert(o object.Object) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.keys[object.KeyOf(o)] = true
}

func (n *names) Remove(k object.Key) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.keys, k)
}

func (n *names) has(k object.Key) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.keys[k]
}

// String is the keys, for a failed test's words.
func (n *names) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return fmt.Sprint(n.keys)
}

// TestFollowFromTheStart follows services and endpoint slices from before the server serves, as a machine's DNS does, and must see what
// the first entries create.
func TestFollowFromTheStart(t *testing.T) {
	for i := range 15 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			dir, addr := t.TempDir(), loopback.Address()
			// A first start that gets as far as its keys.
			if _, err := openNote(dir, false); err != nil {
				t.Fatal(err)
			}
			keys, err := pki.Open(pki.Config{Dir: dir + "/pki"})
			if err != nil {
				t.Fatal(err)
			}
			admin, err := keys.Identity(pki.AdminSpec())
			if err != nil {
				t.Fatal(err)
			}
			c, err := client.New(client.Config{Servers: []string{"https://" + addr}, TLS: pki.ClientTLS(admin, keys.Pool(), ""), Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cancel()
			follow := func(resource string) *names {
				n := &names{}
				wg.Go(func() {
					if err := c.Follow(ctx, object.Selection{Resource: resource}, n); ctx.Err() == nil {
						t.Errorf("follow %s ended: %v", resource, err)
					}
				})
				return n
			}
			services, slices := follow("services"), follow("endpointslices")
			start(t, dir, addr, "")
			eventually(t, "the follower sees default/kubernetes", func() (bool, string) {
				return services.has(object.Key{Resource: "services", Namespace: "default", Name: "kubernetes"}) && slices.has(object.Key{Resource: "endpointslices", Namespace: "default", Name: "kubernetes"}), services.String() + slices.String()
			})
		})
	}
}
