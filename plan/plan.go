package plan

import (
	"reconcile/controller"
	"reconcile/object"
	"reconcile/scheduler"
)

// Plan is what a commit or a request would do, as data. Its JSON is stable.
type Plan struct {
	Commit string `json:"commit,omitempty"`
	// Base is the ref's value that the plan was made against.
	Base   string `json:"base,omitempty"`
	Source string `json:"source,omitempty"`
	// Changes are what the request itself creates, changes and deletes, ordered by key.
	Changes []Change `json:"changes"`
	// Cascade is what the controllers do because of them at once, summed up by owner.
	Cascade    []Cascade   `json:"cascade,omitempty"`
	Placements []Placement `json:"placements,omitempty"`
	Unplaced   []Unplaced  `json:"unplaced,omitempty"`
	Rules      []Rule      `json:"rules,omitempty"`
	Warnings   []string    `json:"warnings,omitempty"`
	Counts     Counts      `json:"counts"`
	// Token is the hash of commit, base and everything decided: apply refuses if it would decide otherwise.
	Token string `json:"token"`
}

// The verbs of changes and rules. Adopt is the change of an object that the source did not own before.
const (
	VerbCreate = "create"
	VerbChange = "change"
	VerbAdopt  = "adopt"
	VerbDelete = "delete"
)

// Change is what happens to one object.
type Change struct {
	Verb string     `json:"verb"`
	Key  object.Key `json:"key"`
	// File is FILE:LINE of the object's document, empty where there is none.
	File   string        `json:"file,omitempty"`
	Fields []FieldChange `json:"fields,omitempty"`
}

// FieldChange is one changed field. Old or New is nil where the field is absent. Values of Secrets are never in it.
type FieldChange struct {
	Path string `json:"path"`
	// File is FILE:LINE of the field in the new document, where it is known.
	File string  `json:"file,omitempty"`
	Old  *string `json:"old,omitempty"`
	New  *string `json:"new,omitempty"`
}

// Cascade sums up what controllers do to the children of one owner, of one resource.
type Cascade struct {
	Owner    object.Key `json:"owner"`
	Resource string     `json:"resource"`
	Created  int        `json:"created,omitempty"`
	Deleted  int        `json:"deleted,omitempty"`
	// Note tells what follows later ("rolling update: ...").
	Note string `json:"note,omitempty"`
}

// Placement is where the new pods of one owner go. The owner of a bare pod is the pod.
type Placement struct {
	Owner object.Key  `json:"owner"`
	Pods  int         `json:"pods"`
	Nodes []NodeCount `json:"nodes"`
	// Each lists every pod with its node, so that the forecast can be checked.
	Each []controller.Placement `json:"each"`
}

// NodeCount is a number of pods on one node.
type NodeCount struct {
	Node string `json:"node"`
	Pods int    `json:"pods"`
}

// Unplaced are the pods of one owner for which no node was found, for one reason.
type Unplaced struct {
	Owner   object.Key `json:"owner"`
	Pods    int        `json:"pods"`
	Message string     `json:"message"`
}

// Rule is a service rule that appears, changes or vanishes. Pods that the plan makes have no address before they run, so that
// the rule's endpoints follow when they are ready; Expected is how many there will be.
type Rule struct {
	Verb    string     `json:"verb"`
	Service object.Key `json:"service"`
	// Port is the service port's name, empty if it has none.
	Port string `json:"port,omitempty"`
	// Address is what clients reach: "10.96.4.7:80/TCP", or "node:30080/TCP".
	Address string `json:"address"`
	// Expected is the number of pods that the service selects, Ready that of endpoints which take connections at once.
	Expected int      `json:"expected"`
	Ready    int      `json:"ready"`
	Notes    []string `json:"notes,omitempty"`
}

// Counts are the plan's numbers of objects. Adopted objects are among the changed ones.
type Counts struct {
	Create int `json:"create"`
	Change int `json:"change"`
	Delete int `json:"delete"`
	Adopt  int `json:"adopt,omitempty"`
}

// Input is what Build makes a plan from: what the sequencer decided, for a forecast and for a commit alike.
type Input struct {
	// Commit is the commit's hash, BaseRef the ref's value before it.
	Commit, BaseRef, Source string
	// Base and After are the state before the request and after Settle.
	Base, After controller.View
	// Requested are the changes of the request's own operations; Written all changes of the overlay, those included.
	Requested, Written []controller.Change
	Outcome            controller.Outcome
	// Adopted tells for which keys git takes over an object that it did not own.
	Adopted map[object.Key]bool
	// Position returns FILE:LINE of a field by its path with indices ("spec.template.spec.containers[0].image"), or of the object
	// for an empty path, and the column there, counted from 1; empty and 0 if it is not known. It may be nil.
	Position func(key object.Key, path string) (line string, column int)
	Warnings []string
	// Extensions are those of the cluster's scheduler, which profiles may name.
	Extensions []*Extension
}

// Extension is a plugin of the cluster's scheduler besides Kubernetes' own.
type Extension = scheduler.Extension

// Empty tells whether the plan does nothing.
func (p *Plan) Empty() bool { return len(p.Changes) == 0 }
