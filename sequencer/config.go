package sequencer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"reconcile/admission"
	"reconcile/controller"
	"reconcile/internal/fp"
	"reconcile/object"
	"reconcile/raftstore"
)

// The errors that callers test for besides Kubernetes' StatusErrors.
var (
	// ErrStale tells that a Raw's Expect was not the present value: somebody else moved the ref.
	ErrStale = errors.New("the key has another value than was expected")
	// ErrPlanChanged tells that the request would now do something else than the plan whose token it carries.
	ErrPlanChanged = errors.New("the plan has changed")
)

// Settler runs the controllers. In production it is Controllers.
type Settler interface {
	// Triggers are what the changes wake; v shows the state after them.
	Triggers(v controller.View, changes []controller.Change) []controller.Trigger
	// Resync are triggers for everything there is.
	Resync(v controller.View) []controller.Trigger
	// Settle is controller.Settle.
	Settle(o controller.Overlay, triggers []controller.Trigger, now time.Time, budget int, admit controller.Admit) controller.Outcome
}

// Controllers is the Settler of a set of controllers.
type Controllers struct{ Set *controller.Set }

// Triggers implements Settler.
func (c Controllers) Triggers(v controller.View, changes []controller.Change) []controller.Trigger {
	return c.Set.Triggers(v, changes)
}

// Resync implements Settler.
func (c Controllers) Resync(v controller.View) []controller.Trigger { return c.Set.Resync(v) }

// Settle implements Settler.
func (c Controllers) Settle(o controller.Overlay, triggers []controller.Trigger, now time.Time, budget int, admit controller.Admit) controller.Outcome {
	return controller.Settle(c.Set, o, triggers, now, budget, admit)
}

// Forwarder carries a message to the leader's sequencer, where Sequencer.Serve answers it, and returns the answer. In production it
// is a POST over the ALPN protocol fwd/1. An error must mean that the message did not reach the leader, or wrap
// raftstore.ErrUnknown.
type Forwarder interface {
	Forward(ctx context.Context, leader raftstore.Leader, message []byte) ([]byte, error)
}

// Usages is what pods were measured to use, and what they told of themselves. It does not change.
type Usages interface {
	Usage(pod object.Key) (object.Usage, bool)
	// Metric is the last value of a metric of a pod's own. Without one, fault may tell why the pod cannot be asked.
	Metric(pod object.Key, q object.MetricQuery) (v object.MetricValue, fault string, ok bool)
}

// noUsages is where nothing is measured.
type noUsages struct{}

// Usage implements Usages.
func (noUsages) Usage(object.Key) (object.Usage, bool) { return object.Usage{}, false }

// Metric implements Usages.
func (noUsages) Metric(object.Key, object.MetricQuery) (object.MetricValue, string, bool) {
	return object.MetricValue{}, "", false
}

// Config is what a Sequencer needs. Store and Settler must be set.
type Config struct {
	Store   *raftstore.Store
	Settler Settler
	// Admit completes what controllers write. Default: admission.Complete.
	Admit controller.Admit
	// Ranges are what services' addresses are taken from.
	Ranges admission.Ranges
	// Forwarder reaches the leader; nil on a cluster of one.
	Forwarder Forwarder
	// Token computes the token of what was decided, for Request.Token; nil refuses requests that carry one.
	Token func(Request, Outcome) string
	// Queue is how many requests may be held, and QueueBytes how many bytes of them: by the leader until they are answered, and by
	// every server of its own clients, whether they are forwarded or wait for a leader. More are told TooManyRequests. Defaults
	// 4096 and 64 MiB.
	Queue      int
	QueueBytes int64
	// Budget is how many writes a Settle may make; what is left over follows in entries of its own. Default 20000.
	Budget int
	// LeaseCheckpoint is how often the times of renewed leases, which the leader keeps in memory, are written. Default 4 s: with nodes
	// that renew every 10 s, no server shows a lease older than 15 s.
	LeaseCheckpoint time.Duration
	// Usages is what pods were measured to use last, for the controllers of one Settle. Nil stands for nothing measured.
	Usages func() Usages
	// Txns reads transactions that came from other servers; nil refuses all transactions (SubmitTxn).
	Txns TxnCodec
	// TxnPatience is how long a transaction waits for a leader. Default 1 s.
	TxnPatience time.Duration
	// Now is the wall clock. Default: time.Now. It may jump: see clock.
	Now func() time.Time
	// Logger is where the sequencer logs. Default: nowhere.
	Logger *slog.Logger
}

// Validate lists all faults of the configuration.
func (c *Config) Validate() error {
	var errs []error
	if c.Store == nil {
		errs = append(errs, errors.New("the field Store is missing"))
	}
	if c.Settler == nil {
		errs = append(errs, errors.New("the field Settler is missing"))
	}
	if c.Queue < 0 || c.QueueBytes < 0 || c.Budget < 0 || c.LeaseCheckpoint < 0 || c.TxnPatience < 0 {
		errs = append(errs, errors.New("the fields Queue, QueueBytes, Budget, LeaseCheckpoint and TxnPatience must not be negative"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("configure the sequencer: %w", err)
	}
	return nil
}

func (c *Config) defaults() {
	if c.Admit == nil {
		c.Admit = admission.Complete
	}
	if c.Queue == 0 {
		c.Queue = 4096
	}
	if c.QueueBytes == 0 {
		c.QueueBytes = 64 << 20
	}
	if c.Budget == 0 {
		c.Budget = 20000
	}
	if c.LeaseCheckpoint == 0 {
		c.LeaseCheckpoint = 4 * time.Second
	}
	if c.TxnPatience == 0 {
		c.TxnPatience = txnPatience
	}
	if c.Usages == nil {
		c.Usages = func() Usages { return noUsages{} }
	}
	if c.Now == nil {
		c.Now = fp.Wall
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}
