package controller

import (
	"time"

	"reconcile/object"
)

// Controller decides for one key at a time. It is a value without state: everything it knows comes from its arguments.
type Controller interface {
	// Name is the controller's name in triggers, events and quarantine entries ("deployment").
	Name() string
	// Watches lists the resources whose changes may concern the controller.
	Watches() []string
	// Keys calls emit with every key that must be looked at again because of ch. v already shows the change.
	Keys(v View, ch Change, emit func(object.Key))
	// Reconcile compares what is wanted for key with what is there. An error makes the key be tried again later.
	Reconcile(v View, key object.Key, now time.Time) (Result, error)
}

// Trigger is one key that one controller must look at.
type Trigger struct {
	Controller string     `json:"controller"`
	Key        object.Key `json:"key"`
}

// Result is what one run of a controller wants to be written.
type Result struct {
	// Put are whole objects to create or to replace. They are the controller's own copies; Settle takes them over, completes
	// them by the admission function, and leaves out what would change nothing.
	Put []object.Object
	// Delete are objects to delete, by the rules of BeginDelete.
	Delete []Deletion
	// Wake is when the key must be looked at again though nothing changed; zero for never.
	Wake time.Time
	// Others are when other keys of the same controller must be looked at again.
	Others []KeyWake
	// Events become Event objects.
	Events []Event
	// Placements and Unplaced are what the scheduling step decided.
	Placements []Placement
	Unplaced   []Unplaced
}

// KeyWake is when a key must be looked at again.
type KeyWake struct {
	Key object.Key
	At  time.Time
}

// Deletion is a wanted deletion of one object.
type Deletion struct {
	Key object.Key
	DeleteOptions
}

// DeleteOptions are the parts of metav1.DeleteOptions that matter to the state machine of deletion.
type DeleteOptions struct {
	// GracePeriodSeconds is for pods; nil takes the pod's own.
	GracePeriodSeconds *int64
	// PropagationPolicy is Background (also if empty), Foreground or Orphan.
	PropagationPolicy string
}

// Event is something worth telling about an object. Equal events of one object share one Event object with a count.
type Event struct {
	Regarding object.Object
	// Type is Normal or Warning.
	Type            string
	Reason, Message string
	// Component is who says so, in Kubernetes' words ("deployment-controller", "default-scheduler").
	Component string
}

// Placement is a pod that was bound to a node.
type Placement struct {
	Pod  object.Key `json:"pod"`
	Node string     `json:"node"`
	// Owner is the controlling owner of the pod; for a ReplicaSet of a Deployment, the Deployment. Zero for a bare pod.
	Owner object.Key `json:"owner,omitzero"`
}

// Unplaced is a pod for which no node was found, with the scheduler's message in Kubernetes' words.
type Unplaced struct {
	Pod     object.Key `json:"pod"`
	Owner   object.Key `json:"owner,omitzero"`
	Message string     `json:"message"`
}

// Wake asks that a trigger be run at a time. Of several wakes of one trigger the earliest suffices: a controller that is woken
// too early answers with the next one.
type Wake struct {
	Trigger Trigger
	At      time.Time
}

// Quarantine is a key whose controller panicked or never settled. It is left out of the rest of the Settle, and a wake tries
// it again.
type Quarantine struct {
	Trigger Trigger `json:"trigger"`
	Reason  string  `json:"reason"`
}

// Outcome is what a Settle did besides its writes to the overlay.
type Outcome struct {
	// Ops is the number of writes that were made, which is what the budget counts.
	Ops int
	// Leftover are the triggers that the budget did not reach, in order; pass them to the next Settle.
	Leftover []Trigger
	Wakes    []Wake
	// Placements are the pods bound, in the order of binding; Unplaced those that no node took.
	Placements  []Placement
	Unplaced    []Unplaced
	Quarantined []Quarantine
	// Errors are what controllers returned; each such key has a wake.
	Errors []Quarantine
}

// Admit completes and checks a controller's object before it is stored: metadata, generation, defaults. old is nil for a
// creation. It may change o, and nothing else.
type Admit func(o, old object.Object, now time.Time) error
