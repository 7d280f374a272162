package controller

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"reconcile/object"
	"reconcile/scheduler"
)

// Config is what the controllers know of the cluster besides its objects.
type Config struct {
	// ClusterID makes UIDs differ between clusters; it must never change.
	ClusterID string
	// ServiceRange holds the services' addresses; its first address is that of default/kubernetes.
	ServiceRange netip.Prefix
	// PodRange is cut into one /24 (IPv4) a node.
	PodRange netip.Prefix
	// RootCA is the certificate of the cluster's authority in PEM form, which every namespace has as a ConfigMap. Empty leaves that out.
	RootCA string
	// Extensions are the scheduler's plugins besides Kubernetes' own, which its profiles may name.
	Extensions []*scheduler.Extension
	// AdmitPod completes the pods of controllers before quotas look at them; nil leaves them as their templates are.
	AdmitPod PodAdmission
	// AdmitClaim refuses claims that controllers make before quotas look at them; nil refuses none.
	AdmitClaim ClaimAdmission
	// Signer signs certificate requests; nil leaves them unsigned.
	Signer Signer
	// Tokens signs the tokens of service accounts' Secrets; nil leaves those empty.
	Tokens TokenSigner
}

// Validate lists all faults of the configuration.
func (c Config) Validate() error {
	var errs []error
	if c.ClusterID == "" {
		errs = append(errs, errors.New("controller config: ClusterID is empty"))
	}
	if !c.ServiceRange.IsValid() || !c.ServiceRange.Addr().Is4() || c.ServiceRange.Bits() > 28 {
		errs = append(errs, fmt.Errorf("controller config: service range %s must be an IPv4 prefix of at most 28 bits", c.ServiceRange))
	}
	if !c.PodRange.IsValid() || !c.PodRange.Addr().Is4() || c.PodRange.Bits() > 24 {
		errs = append(errs, fmt.Errorf("controller config: pod range %s must be an IPv4 prefix of at most 24 bits", c.PodRange))
	}
	return errors.Join(errs...)
}

// Set is an ordered set of controllers. The order is that of work within a Settle: a controller runs when none before it has
// anything to do. A Set is immutable and may be shared.
type Set struct {
	controllers []Controller
	byName      map[string]int
	byResource  map[string][]int
}

// NewSet returns the set of all controllers of the cluster.
func NewSet(cfg Config) (*Set, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return SetOf(standard(cfg)...), nil
}

// SetOf makes a set of the controllers given, in that order.
func SetOf(cs ...Controller) *Set {
	s := &Set{controllers: cs, byName: map[string]int{}, byResource: map[string][]int{}}
	for i, c := range cs {
		s.byName[c.Name()] = i
		for _, r := range c.Watches() {
			s.byResource[r] = append(s.byResource[r], i)
		}
	}
	return s
}

// Triggers returns what the changes wake, each once, in a fixed order. v shows the state after the changes.
func (s *Set) Triggers(v View, changes []Change) []Trigger {
	var out []Trigger
	seen := map[Trigger]bool{}
	for _, ch := range changes {
		s.keys(v, ch, func(i int, k object.Key) {
			t := Trigger{Controller: s.controllers[i].Name(), Key: k}
			if !seen[t] {
				seen[t] = true
				out = append(out, t)
			}
		})
	}
	return out
}

// Resync returns triggers for everything there is, as if each object had just been created. A new leader starts with them, and
// a long-running one repeats them now and then.
func (s *Set) Resync(v View) []Trigger {
	var changes []Change
	for _, k := range object.Kinds() {
		for o := range v.List(k.Resource, "") {
			changes = append(changes, Change{Key: object.KeyOf(o), New: o})
		}
	}
	out := s.Triggers(v, changes)
	for _, c := range s.controllers {
		if st, ok := c.(starter); ok {
			for _, k := range st.Start() {
				t := Trigger{Controller: c.Name(), Key: k}
				if !slices.Contains(out, t) {
					out = append(out, t)
				}
			}
		}
	}
	return out
}

// finisher is a controller whose run writes objects of some resources as they are to stay: such a write is no reason for it to look again at
// the same key, which would cost another walk over all of the key's pods. What others make of it is.
type finisher interface{ final(resource string) bool }

// folder is a controller some of whose keys are parts of others: a run for the whole does what the runs for its parts would.
type folder interface {
	fold(key object.Key) (whole object.Key, part bool)
}

// whole is the key that a key is a part of.
func (s *Set) whole(i int, k object.Key) (object.Key, bool) {
	if f, ok := s.controllers[i].(folder); ok {
		return f.fold(k)
	}
	return k, false
}

// final tells whether what a controller itself writes of a resource is no reason for it to look again.
func (s *Set) final(i int, resource string) bool {
	f, ok := s.controllers[i].(finisher)
	return ok && f.final(resource)
}

// starter is a controller that has work in an empty cluster.
type starter interface{ Start() []object.Key }

func (s *Set) keys(v View, ch Change, emit func(int, object.Key)) {
	at := 0
	each := func(k object.Key) { emit(at, k) } // one for all: each write asks twenty controllers
	for _, at = range s.byResource[ch.Key.Resource] {
		s.controllers[at].Keys(v, ch, each)
	}
}
