package sequencer

import (
	"sync"

	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/object"
	"reconcile/raftstore"
	"reconcile/scheduler"
)

// snapshots keeps the scheduler's snapshot from one decision to the next, so that to place a pod costs what changed since and not a look at all
// nodes and pods. It is a copy and no state of its own: what a decision is made on (a committed view, and what stands on it
// uncommitted) says what the snapshot shows, and what it may show wrongly is looked at again. So it needs to hear nothing of
// entries that fail, of requests that are refused, or of terms.
type snapshots struct {
	store *raftstore.Store
	// mu is held for the length of a Settle. Who does not get it at once does without.
	mu    sync.Mutex
	kept  scheduler.Kept
	watch *raftstore.Watch // of what is committed, complete up to rev or later
	rev   uint64           // the committed revision that the snapshot was brought to last
	// loose are the keys that may be otherwise in it than at rev: those that were written above it, and those that the watch told too early.
	loose map[object.Key]uint64 // 0, or the revision that the watch told
}

// measuredOverlay is an Overlay that also tells controllers what pods were measured to use, and what they told of themselves.
type measuredOverlay struct {
	*cluster.Overlay
	usage Usages
}

// Usage implements controller.UsageView.
func (o measuredOverlay) Usage(pod object.Key) (object.Usage, bool) { return o.usage.Usage(pod) }

// Metric implements controller.MetricsView.
func (o measuredOverlay) Metric(pod object.Key, q object.MetricQuery) (object.MetricValue, string, bool) {
	return o.usage.Metric(pod, q)
}

// keptOverlay is an Overlay whose controllers are lent the snapshot.
type keptOverlay struct {
	measuredOverlay
	s      *snapshots
	view   *cluster.View
	layers []*cluster.Overlay
}

// over lends the snapshot to a Settle on o; end must be called behind it. If somebody else has it, or o stands on an older state than it, the
// Settle does without.
func (s *snapshots) over(o measuredOverlay) (_ controller.Overlay, end func()) {
	k := &keptOverlay{measuredOverlay: o, s: s}
	var r cluster.Reader = o.Overlay
	for k.view == nil {
		switch x := r.(type) {
		case *cluster.Overlay:
			k.layers = append(k.layers, x)
			r = x.Base()
		case leaseReader:
			r = x.Reader
		case *cluster.View:
			k.view = x
		default:
			return o, func() {}
		}
	}
	if !s.mu.TryLock() {
		return o, func() {}
	}
	if k.view.Rev() < s.rev {
		s.mu.Unlock()
		return o, func() {}
	}
	return k, s.mu.Unlock
}

// Snapshot implements what package controller asks of a view that keeps the scheduler's snapshot.
func (k *keptOverlay) Snapshot(extensions []*scheduler.Extension) (*scheduler.Snapshot, func(), error) {
	s := k.s
	if !s.follow(k.view.Rev()) {
		s.kept = scheduler.Kept{} // it is read anew
	}
	changed := make([]object.Key, 0, len(s.loose))
	for key, rev := range s.loose {
		changed = append(changed, key)
		if rev <= k.view.Rev() {
			delete(s.loose, key)
		}
	}
	for _, l := range k.layers {
		for key := range l.Written() {
			if matters(key.Resource) {
				changed = append(changed, key)
				s.loose[key] = max(s.loose[key], 0)
			}
		}
	}
	profiles, fault := s.kept.Profiles(k, extensions)
	return s.kept.Bring(k, profiles, changed), s.kept.Done, fault
}

// follow makes loose what was committed since the last time, up to rev at least. False says that this cannot be told.
func (s *snapshots) follow(rev uint64) bool {
	known := s.watch != nil
	for known && s.rev < rev {
		events, upTo, err := s.watch.Poll()
		if known = err == nil && (len(events) > 0 || upTo >= rev); !known {
			break
		}
		for _, e := range events {
			if key, err := object.ParsePath(e.Key); err == nil && matters(key.Resource) {
				s.loose[key] = max(s.loose[key], e.Rev)
			}
		}
		if len(events) == 0 {
			s.rev = rev
		}
	}
	if known {
		return true
	}
	s.rev, s.loose = rev, map[object.Key]uint64{}
	s.watch, _ = s.store.Watch("/registry/", rev) // without one, the next decision reads anew too
	return false
}

// matters tells whether a snapshot looks at objects of the resource, and keeps what it saw.
func matters(resource string) bool {
	switch resource {
	case "pods", "nodes", "namespaces", "services", "poddisruptionbudgets", "persistentvolumeclaims", "persistentvolumes", "storageclasses", "csinodes", "csidrivers",
		"csistoragecapacities", "volumeattachments":
		return true
	}
	return false
}
