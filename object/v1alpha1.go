package object

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is that of the kinds of our own.
var GroupVersion = schema.GroupVersion{Group: "reconcile.local", Version: "v1alpha1"}

// CommitGVK is the kind of the ledger of commits.
var CommitGVK = GroupVersion.WithKind("Commit")

// The phases of a commit, in the order in which it passes through them.
const (
	CommitCommitted   = "committed"
	CommitProgressing = "progressing"
	CommitHealthy     = "healthy"
	CommitFailed      = "failed"
	CommitSuperseded  = "superseded"
	CommitRolledBack  = "rolled back"
)

// Annotations that an object made from git carries, so that each of its fields can be traced to a file.
const (
	// AnnotationSource is the name of the source that owns the object ("cluster" for the cluster's own repository).
	AnnotationSource = "reconcile.local/source"
	// AnnotationCommit is the commit that last changed what git says about the object. On what a controller made (without
	// AnnotationSource) it is the one that its owner carried: a pod's never changes.
	AnnotationCommit = "reconcile.local/commit"
	// AnnotationFile is the path and line of the object's document at that commit, as FILE:LINE.
	AnnotationFile = "reconcile.local/file"
	// AnnotationSlot is the number of the child's slot within its owner; a slot is never reused.
	AnnotationSlot = "reconcile.local/slot"
)

// CommitOf is the commit that o carries, as logs show it: the first twelve digits, empty if git has no part in o. Controllers hand
// the annotation on to what they create, so that a pod tells the commit that made it.
func CommitOf(o Object) string { return ShortCommit(o.GetAnnotations()[AnnotationCommit]) }

// ShortCommit is a commit's hash as logs show it: one length everywhere, so that one search finds a commit's whole way.
func ShortCommit(hash string) string { return hash[:min(len(hash), 12)] }

// GitManager is the field manager under which a source owns the fields that its files set.
func GitManager(source string) string { return "git:" + source }

// Commit is one row of the ledger: a commit of a source that was accepted, and how far the machines have followed it.
// Its name is the commit's hash.
type Commit struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   CommitSpec   `json:"spec"`
	Status CommitStatus `json:"status,omitempty"`
}

// CommitSpec is what was decided when the commit was accepted. It does not change.
type CommitSpec struct {
	Source  string `json:"source"`
	Ref     string `json:"ref"`
	Hash    string `json:"hash"`
	Parent  string `json:"parent,omitempty"`
	Author  string `json:"author,omitempty"`
	Subject string `json:"subject,omitempty"`
	// User is who pushed it.
	User string `json:"user,omitempty"`
	// Token is the plan's token: the hash of commit, base ref and decided changes, placements and rules.
	Token string `json:"token,omitempty"`
	// Counts are the numbers of objects created, changed and deleted by the commit.
	Created int `json:"created"`
	Changed int `json:"changed"`
	Deleted int `json:"deleted"`
	// Times of the way: received, validated, planned, committed.
	Received  metav1.MicroTime `json:"received"`
	Validated metav1.MicroTime `json:"validated"`
	Planned   metav1.MicroTime `json:"planned"`
	// Objects are all objects that the commit's tree holds, with the file each comes from.
	Objects []CommitObject `json:"objects,omitempty"`
}

// CommitObject is one object of the commit's tree.
type CommitObject struct {
	Resource  string `json:"resource"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	File      string `json:"file,omitempty"`
	Line      int    `json:"line,omitempty"`
}

// Key is the object's address.
func (c CommitObject) Key() Key {
	return Key{Resource: c.Resource, Namespace: c.Namespace, Name: c.Name}
}

// CommitStatus is how far the machines have followed.
type CommitStatus struct {
	Phase string `json:"phase"`
	// Message is the first reason why the commit waits or has failed.
	Message string `json:"message,omitempty"`
	// Waiting are the objects that are not Current yet, each with its reason; at most 100.
	Waiting []CommitWaiting `json:"waiting,omitempty"`
	// Current is the number of the commit's objects that are Current (kstatus).
	Current int `json:"current"`
	Total   int `json:"total"`

	Committed *metav1.MicroTime `json:"committed,omitempty"`
	Healthy   *metav1.MicroTime `json:"healthy,omitempty"`

	// Entry is the entry that the commit became. It is not stored here: the store keeps it beside the row, and servers add it when they show one.
	Entry *CommitEntry `json:"entry,omitempty"`
}

// CommitEntry is the one entry of the store's log by which a commit was made.
type CommitEntry struct {
	// FirstRevision and LastRevision are the revisions of its writes: those of the commit and of all that the controllers made of it at once.
	FirstRevision uint64 `json:"firstRevision"`
	LastRevision  uint64 `json:"lastRevision"`
	// RaftIndex and RaftTerm are its place in raft's log.
	RaftIndex uint64 `json:"raftIndex"`
	RaftTerm  uint64 `json:"raftTerm"`
}

// CommitWaiting is an object that is not Current yet.
type CommitWaiting struct {
	CommitObject `json:",inline"`
	// Status is kstatus' word: InProgress, Failed, Terminating, Unknown.
	Status  string `json:"status"`
	Message string `json:"message,omitempty"`
}

// DeepCopyObject implements runtime.Object.
func (c *Commit) DeepCopyObject() runtime.Object {
	out := *c
	c.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Spec.Objects = append([]CommitObject(nil), c.Spec.Objects...)
	out.Status.Waiting = append([]CommitWaiting(nil), c.Status.Waiting...)
	out.Status.Committed = c.Status.Committed.DeepCopy()
	out.Status.Healthy = c.Status.Healthy.DeepCopy()
	if c.Status.Entry != nil {
		entry := *c.Status.Entry
		out.Status.Entry = &entry
	}
	return &out
}

// CommitList is a list of commits.
type CommitList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Commit `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (l *CommitList) DeepCopyObject() runtime.Object {
	out := &CommitList{TypeMeta: l.TypeMeta}
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	for i := range l.Items {
		out.Items = append(out.Items, *l.Items[i].DeepCopyObject().(*Commit))
	}
	return out
}

// ownKinds are the kinds of our own.
var ownKinds = []Kind{
	{GVK: CommitGVK, Resource: "commits", Singular: "commit", ShortNames: []string{"gc"}, Status: true, Uncached: true, make: of[Commit]},
}

func addOwnKinds(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &Commit{}, &CommitList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
