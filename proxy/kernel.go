package proxy

import (
	"context"
	"time"

	"reconcile/object"
	"reconcile/proxy/model"
)

// Source is where the proxy learns what is wanted.
type Source interface {
	// Follow calls r with the whole selection and then with each change until ctx ends. It retries by itself when servers are
	// away, and returns only ctx's error or one that retrying cannot cure.
	Follow(ctx context.Context, sel object.Selection, r object.Receiver) error
}

// Kernel is a load balancer that takes a whole state by differences. One goroutine uses it at a time. It remembers nothing that
// List could not tell: a new Kernel on a kernel that an earlier process programmed goes on where that one stopped.
type Kernel interface {
	// Name is "ipvs" or "nftables".
	Name() string
	// Setup makes the fixed part (tables, routes, sysctls) match the facts. It is idempotent and interrupts no connection.
	Setup(ctx context.Context, f model.Facts) error
	// List reads back what the kernel does, of what is ours. Names are empty. Backends that only finish old connections are not in it.
	List(ctx context.Context) (model.State, error)
	// Apply does the operations in order. After an error some may have been done: List tells. Connections through a removed
	// backend go on where the kernel can let them.
	Apply(ctx context.Context, d model.Delta) error
	// Drain removes for good the backends that finish old connections and have none left, or are past their time. It returns
	// when it wants to be called again, 0 when nothing is draining.
	Drain(ctx context.Context) (again time.Duration, err error)
	// Close releases sockets. It removes nothing from the kernel.
	Close() error
}
