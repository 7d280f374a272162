package sequencer

import (
	"reconcile/controller"
	"reconcile/object"
)

// Verb is what an Op does.
type Verb string

// The verbs. UpdateStatus replaces only what the status subresource may change; the rest of the object is kept.
const (
	Create       Verb = "create"
	Update       Verb = "update"
	UpdateStatus Verb = "updateStatus"
	Delete       Verb = "delete"
)

// Op is one wanted write of one object, with the conditions under which it holds.
type Op struct {
	Verb Verb
	Key  object.Key
	// Object is the whole new object, already defaulted and validated; nil for Delete. The sequencer copies before it changes it.
	Object object.Object
	// UID and ResourceVersion, if set, must be those of the stored object, else the request fails with a Conflict.
	UID             string
	ResourceVersion string
	// GracePeriodSeconds is for Delete of a pod: nil takes the pod's own.
	GracePeriodSeconds *int64
	// PropagationPolicy is for Delete: Background (the default), Foreground or Orphan.
	PropagationPolicy string
	// Subresource is by what an Update comes, if not by the object itself, and an UpdateStatus, if not by the status: admission.WriteOf tells what it may
	// change. A status that comes by "status" is committed as it is: controllers that want it otherwise write it in the next entry.
	Subresource string
}

// Raw is a write of a key outside /registry: a git ref, the list of packs.
type Raw struct {
	Key string
	// Value is the new value; nil deletes.
	Value []byte
	// Expect must be the present value (nil: absent) if Check is set, else the request fails with ErrStale.
	Expect []byte
	Check  bool
}

// Request is a set of writes that are committed together or not at all.
type Request struct {
	// User is who asks, for the log.
	User string
	// Source is set by gitops ("cluster"): its writes are not refused for touching fields that git owns.
	Source string
	Ops    []Op
	Raw    []Raw
	// Blobs are the digests of staged blobs that the writes refer to.
	Blobs []string
	// Token, if set, is the plan's token that the settled outcome must have, else the request fails with ErrPlanChanged.
	Token string
	// Commit and BaseRef are what the token covers besides the decided changes: the commit's hash and the ref's old value.
	Commit, BaseRef string
	// DryRun settles and answers, and commits nothing.
	DryRun bool
}

// Result is what a committed (or dry-run) request did.
type Result struct {
	// Rev is the last revision of the entry that carried the request.
	Rev uint64
	// Objects are the stored objects of the request's Ops, in their order; for Delete the last state; nil for an object that was written and that the same
	// entry removed: it was waiting for its last finalizer only, or its owner is not there. They are shared.
	Objects []object.Object
	// Outcome is what was decided: the changes of the request and of the controllers, with placements. What the controllers could
	// not do within the budget follows in later entries.
	Outcome Outcome
}

// Outcome is what a request does to the state, decided on Base. A push, and what carries a token or raw writes, is alone in its entry;
// where requests share one, After, Written and Settled are those of all.
type Outcome struct {
	// Base is the state that it was decided on, After the state that it makes. Do not keep them longer than the request.
	Base, After controller.View
	// Requested are the changes of the request's own Ops; Written all changes, those and the controllers', in the order of keys.
	Requested, Written []controller.Change
	// Settled is what the controllers said: placements with reasons, quarantined keys, leftovers.
	Settled controller.Outcome
}
