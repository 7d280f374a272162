package sequencer

import (
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/admission"
	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/object"
)

// Write is what the writer does with a request before any controller runs, as a function: it judges the conditions, prepares, allocates and deletes. It
// is for a store without controllers. base is not changed, and the request holds no raw writes and no token. The changes are those to be stored, in the
// order of paths; each has a revision of its own, base.Rev()+1+i. There are none for a dry run and for a request that changes nothing.
func Write(base cluster.Reader, req *Request, ranges admission.Ranges, now time.Time) (Result, []controller.Change, error) {
	if len(req.Raw)+len(req.Blobs) > 0 || req.Token != "" {
		return Result{}, nil, apierrors.NewBadRequest("a store without a log takes objects only")
	}
	o := cluster.NewOverlay(base)
	a := applier{ranges: ranges, now: now, source: req.Source, user: req.User}
	for i := range req.Ops {
		if err := a.op(o, &req.Ops[i]); err != nil {
			return Result{}, nil, err
		}
	}
	list := changes(o)
	if req.DryRun {
		return Result{Rev: base.Rev(), Objects: objectsOf(req, o, byKey(list), nil, now)}, nil, nil
	}
	s, err := seal(base.Rev(), now, list, newRawLayer(nil))
	if err != nil {
		return Result{}, nil, err
	}
	return Result{Rev: s.last, Objects: objectsOf(req, o, byKey(s.changes), removals(base.Rev(), s.changes), now)}, s.changes, nil
}

// removals are the revisions of what is removed, as seal counts.
func removals(base uint64, written []controller.Change) map[object.Key]uint64 {
	gone := map[object.Key]uint64{}
	for i, ch := range written {
		if ch.New == nil {
			gone[ch.Key] = base + 1 + uint64(i)
		}
	}
	return gone
}
