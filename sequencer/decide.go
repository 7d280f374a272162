package sequencer

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/admission"
	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/object"
)

// decider turns a request into changes: the same code for a commit, a dry run and a forecast.
type decider struct {
	settler Settler
	admit   controller.Admit
	ranges  admission.Ranges
	budget  int
	token   func(Request, Outcome) string
	hasBlob func(string) bool
	usages  func() Usages
	log     *slog.Logger
	// snapshots are of decisions that are made here one after the other.
	snapshots *snapshots
}

// decision is what a request comes to on a state.
type decision struct {
	overlay *cluster.Overlay
	raw     *rawLayer
	outcome Outcome
}

// decide applies the request to a new overlay on base, settles, and compares the plan's token. It changes nothing but the overlay.
func (d *decider) decide(base cluster.Reader, raw func(string) ([]byte, bool), req *Request, now time.Time) (*decision, error) {
	dec, err := d.try(base, raw, req, now)
	if err != nil {
		return nil, err
	}
	if dec.outcome, err = d.settle(dec.overlay, dec.outcome, now); err != nil {
		return nil, err
	}
	if req.Token != "" {
		if d.token == nil {
			return nil, apierrors.NewBadRequest("this server checks no plan tokens")
		}
		if have := d.token(*req, dec.outcome); have != req.Token {
			return nil, fmt.Errorf("%w: its token is %s now, not %s", ErrPlanChanged, have, req.Token)
		}
	}
	return dec, nil
}

// try applies the request's own operations to a new overlay on base, and settles nothing.
func (d *decider) try(base cluster.Reader, raw func(string) ([]byte, bool), req *Request, now time.Time) (dec *decision, err error) {
	defer d.recovered(&err)
	dec = &decision{overlay: cluster.NewOverlay(base), raw: newRawLayer(raw)}
	if err := d.apply(dec, req, now); err != nil {
		return nil, err
	}
	requested := changes(dec.overlay)
	dec.outcome = Outcome{Base: base, After: dec.overlay, Requested: requested, Written: requested}
	return dec, nil
}

// settle runs the controllers on what an outcome's requested changes wake, and completes the outcome.
func (d *decider) settle(o *cluster.Overlay, out Outcome, now time.Time) (_ Outcome, err error) {
	defer d.recovered(&err)
	return d.run(o, out, d.settler.Triggers(o, out.Requested), now)
}

// triggers are what changes wake.
func (d *decider) triggers(v controller.View, list []controller.Change) (_ []controller.Trigger, err error) {
	defer d.recovered(&err)
	return d.settler.Triggers(v, list), nil
}

// run runs the controllers on triggers. After an error the overlay is of no use.
func (d *decider) run(o *cluster.Overlay, out Outcome, triggers []controller.Trigger, now time.Time) (_ Outcome, err error) {
	defer d.recovered(&err)
	on, end := d.snapshots.over(measuredOverlay{o, d.usages()})
	defer end()
	out.Settled = d.settler.Settle(on, triggers, now, d.budget, d.admitOn(o))
	if out.Settled.Ops > 0 {
		out.Written = changes(o)
	}
	return out, nil
}

// admitOn is the admission of what controllers write on a state: a new pod gets what its RuntimeClass says and the resources that its namespace
// has for it.
func (d *decider) admitOn(v controller.View) controller.Admit {
	if d.admit == nil {
		return nil
	}
	return func(o, old object.Object, now time.Time) error {
		if p, ok := o.(*corev1.Pod); ok && old == nil {
			if err := admission.AdmitPod(v, p); err != nil {
				return err
			}
		}
		return d.admit(o, old, now)
	}
}

// recovered makes an InternalError of a panic: the request is refused and the writer goes on. The place is for the log, and the
// panic's value for nobody: it may be a Secret's.
func (d *decider) recovered(err *error) {
	if p := recover(); p != nil {
		text := controller.PanicText(p)
		d.log.Error("a decision panicked", "reason", text, "stack", string(debug.Stack()))
		*err = apierrors.NewInternalError(fmt.Errorf("the request made the server panic (%s); nothing was changed, and the leader's log says where it was", text))
	}
}

func (d *decider) apply(dec *decision, req *Request, now time.Time) error {
	blobs := make(map[string]bool, len(req.Blobs))
	for _, digest := range req.Blobs {
		if !d.hasBlob(digest) {
			return apierrors.NewBadRequest(fmt.Sprintf("blob %s was not staged, or has been forgotten since: stage it again", digest))
		}
		blobs[digest] = true
	}
	for i := range req.Raw {
		if err := dec.raw.raw(&req.Raw[i], blobs); err != nil {
			return err
		}
	}
	a := newApplier(req, d.ranges, now)
	for i := range req.Ops {
		if err := a.op(dec.overlay, &req.Ops[i]); err != nil {
			return err
		}
	}
	keepStatuses(dec.overlay, req)
	return nil
}

// keepStatuses has this entry's controllers keep the statuses that the request writes by the subresource, as they are.
func keepStatuses(o *cluster.Overlay, req *Request) {
	for i := range req.Ops {
		if op := &req.Ops[i]; op.Verb == UpdateStatus && op.Subresource == "status" {
			o.KeepStatus(op.Key)
		}
	}
}

// changes are the overlay's, as controllers take them.
func changes(o *cluster.Overlay) []controller.Change {
	list := o.Changes()
	out := make([]controller.Change, len(list))
	for i, c := range list {
		out[i] = controller.Change(c)
	}
	return out
}

// objectsOf are the answers to a request's operations: what is stored after them, or was before a deletion; nil for what was written and is gone. gone are the revisions of the removals, nil
// where nothing is written.
func objectsOf(req *Request, after cluster.Reader, changed map[object.Key]controller.Change, gone map[object.Key]uint64, now time.Time) []object.Object {
	out := make([]object.Object, len(req.Ops))
	for i := range req.Ops {
		op := &req.Ops[i]
		ch, ok := changed[op.Key]
		switch {
		case ok && ch.New != nil:
			out[i] = ch.New
		case ok && op.Verb == Delete:
			out[i] = controller.Deleted(ch.Old, deleteOptions(op), now)
			if rev, ok := gone[op.Key]; ok {
				out[i].SetResourceVersion(strconv.FormatUint(rev, 10))
			}
		case ok: // the entry also removed it
		default:
			if o, ok := after.Get(op.Key); ok {
				out[i] = o
			}
		}
	}
	return out
}
