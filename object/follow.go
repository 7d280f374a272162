package object

// Selection names the objects that a reader follows. Resource is the plural and must be set; the rest narrows it and may be
// empty. The selectors are written as Kubernetes writes them ("spec.nodeName=n1").
type Selection struct {
	Resource      string
	Namespace     string
	LabelSelector string
	FieldSelector string
}

// Receiver is given the objects of a selection: the whole set first, and again after any gap, then each change. Calls come one
// at a time. The objects are shared: a receiver that wants to change one copies it first. A receiver must not block for long;
// it notes what changed and leaves the work to its own loop.
type Receiver interface {
	Replace([]Object)
	Upsert(Object)
	Remove(Key)
}
