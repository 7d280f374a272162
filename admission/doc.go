// Package admission decides whether an object may be stored, and completes it: defaulting, validation, ownership of fields,
// quota and allocation.
//
// It is pure and owns no state. It is the one importer of k8s.io/kubernetes, whose defaults, conversions and validation are
// used as they are, so that what is accepted here is what Kubernetes accepts, with the same words. It may know object and
// schema only; whoever calls it passes the objects and views it needs.
package admission
