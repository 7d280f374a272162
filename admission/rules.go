package admission

import (
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"reconcile/object"
)

// rules are what admission knows of one kind. Every part may be left out: a kind without a row is stored as it is sent.
type rules struct {
	// create, update and status validate Kubernetes' internal types. status is for the status subresource; nil is update.
	create         func(runtime.Object) field.ErrorList
	update, status func(o, old runtime.Object) field.ErrorList
	// warn tells a client what is allowed and unwise; old is nil for a creation.
	warn func(o, old runtime.Object) []string

	// begin completes an object that is created, after its status was emptied. It may be called twice.
	begin func(o object.Object, now time.Time)
	// keep takes from the stored object what an update may not change, besides metadata and status.
	keep func(o, old object.Object)
	// keepStatus does the same for a write of the status.
	keepStatus func(o, old object.Object, now time.Time)
	// counts tells that metadata.generation starts at 1, and grows tells whether an update makes it grow; nil is specChanged.
	counts bool
	grows  func(o, old object.Object) bool
	// strictStatus tells that a write of the status changes no label and no annotation.
	strictStatus bool
	// bornWithStatus tells that a creation may bring a status, as a node's does.
	bornWithStatus bool
	// creating tells that an update of what is not there creates it.
	creating bool
	// versioned tells that an update must name the version that it replaces.
	versioned bool
	// updateKeeps are the fields besides the status that an update does not change.
	updateKeeps []string
	// statusKeeps are the fields besides the specification that a write of the status does not change.
	statusKeeps []string
	// always writes what every object of the kind has; it is called with each write.
	always func(o object.Object)
	// finish completes what a controller makes of a template, instead of begin and defaults.
	finish func(o object.Object)
	// countsClients tells that only clients' changes of the specification make the generation grow: controllers change no pod's but by binding it.
	countsClients bool
	// reportsMeta tells that a write of the status brings labels and annotations: agents report a node's with its status, as kubelets do; they add and
	// never take away.
	reportsMeta bool
	// ends are the fields by which an object is deleted one day: in an object of git they are git's, like its deletion, whether or not a file sets them.
	ends []string
	// named is told who asks for a creation.
	named func(o object.Object, user string, groups []string)
}

// checks are a kind's validations on its internal type.
func checks[T runtime.Object](create func(T) field.ErrorList, update, status func(o, old T) field.ErrorList) rules {
	r := rules{
		create: func(o runtime.Object) field.ErrorList { return create(o.(T)) },
		update: func(o, old runtime.Object) field.ErrorList { return update(o.(T), old.(T)) },
	}
	if status != nil {
		r.status = func(o, old runtime.Object) field.ErrorList { return status(o.(T), old.(T)) }
	}
	return r
}

// counted makes the kind count generations.
func (r rules) counted() rules { r.counts = true; return r }

// creates makes an update of what is not there create it.
func (r rules) creates() rules { r.creating = true; return r }

// needsVersion makes an update name the version that it replaces.
func (r rules) needsVersion() rules { r.versioned = true; return r }

// CreatesByUpdate tells whether an update of an object that is not there creates it, as Kubernetes has it for some kinds.
func CreatesByUpdate(k object.Kind) bool { return rulesOf(k.Resource).creating }

// NeedsVersion tells whether an update must name the version of what it replaces, as Kubernetes has it for some kinds.
func NeedsVersion(k object.Kind) bool { return rulesOf(k.Resource).versioned }

// warns adds the kind's warnings.
func warns[T runtime.Object](r rules, f func(o, old T) []string) rules {
	r.warn = func(o, old runtime.Object) []string {
		var was T
		if old != nil {
			was = old.(T)
		}
		return f(o.(T), was)
	}
	return r
}

// both runs a creation's validation before an update's, as some kinds' strategies do.
func both[T any](create func(T) field.ErrorList, update func(o, old T) field.ErrorList) func(o, old T) field.ErrorList {
	return func(o, old T) field.ErrorList { return append(create(o), update(o, old)...) }
}

// anyStatus is for kinds whose status nobody judges.
func anyStatus[T any](T, T) field.ErrorList { return nil }

// rulesOf finds a kind's row.
func rulesOf(resource string) rules {
	for _, table := range []map[string]rules{coreRules, workloadRules, clusterRules} {
		if r, ok := table[resource]; ok {
			return r
		}
	}
	return rules{}
}

// rulesFor is rulesOf for an object.
func rulesFor(o object.Object) (rules, object.Kind) {
	k, err := object.KindOfObject(o)
	if err != nil {
		return rules{}, k
	}
	return rulesOf(k.Resource), k
}
