package raftstore

import "sync"

// WatchGroup is many watches that one goroutine serves: it sleeps until there are events for one of them, and each costs that goroutine a few
// bytes while nothing comes. All methods but Store.WatchGroup are for that goroutine.
type WatchGroup struct {
	h    *history
	wake func()

	mu    sync.Mutex
	ready []*Watch
}

// WatchGroup makes an empty group. wake is called when Ready has something to give, by the goroutine that applies entries: it must not block.
func (s *Store) WatchGroup(wake func()) *WatchGroup { return &WatchGroup{h: s.hist, wake: wake} }

// Add takes a watch into the group, until Remove. Next must not be called for it; Ready names it as soon as Poll has something to look at,
// and now.
func (g *WatchGroup) Add(w *Watch) {
	w.group = g
	g.h.waits.stay(w)
	g.push(w)
}

// Remove takes a watch out of the group. It must be called for each before the group is let go of.
func (g *WatchGroup) Remove(w *Watch) {
	g.h.waits.quit(w)
	w.group = nil
}

// Ready returns the watches for which there may be events, in the order in which they came, in room's memory.
func (g *WatchGroup) Ready(room []*Watch) []*Watch {
	g.mu.Lock()
	defer g.mu.Unlock()
	room = append(room[:0], g.ready...)
	clear(g.ready)
	g.ready = g.ready[:0]
	return room
}

// Poll is Watch.Poll for one of the group's: if it did not return all that there is, Ready names the watch again. After an error, or for a watch
// that was removed meanwhile, it does not.
func (g *WatchGroup) Poll(w *Watch) ([]*Event, uint64, error) {
	if w.group != g {
		return nil, w.after, nil
	}
	events, upTo, err := w.Poll()
	if err == nil && !g.idle(w) {
		g.push(w)
	}
	return events, upTo, err
}

// Seen tells whether a watch has nothing to look at, and then the revision up to which it is complete.
func (g *WatchGroup) Seen(w *Watch) (rev uint64, ok bool) {
	g.h.mu.RLock()
	defer g.h.mu.RUnlock()
	if !w.idle {
		return w.after, false
	}
	w.next, w.after = g.h.first+uint64(len(g.h.events)), max(w.after, g.h.rev)
	return w.after, true
}

func (g *WatchGroup) idle(w *Watch) bool {
	g.h.mu.RLock()
	defer g.h.mu.RUnlock()
	return w.idle
}

func (g *WatchGroup) push(w *Watch) {
	g.mu.Lock()
	g.ready = append(g.ready, w)
	first := len(g.ready) == 1
	g.mu.Unlock()
	if first {
		g.wake()
	}
}

// wakeLocked ends a watch's idleness with an event, of which the number and the revision are given.
func (w *Watch) wakeLocked(number, rev uint64) {
	if !w.idle {
		return
	}
	w.idle, w.woken.number, w.woken.rev = false, number, rev
	w.group.push(w)
}

// skipLocked passes over what came, while the watch was idle, before the event that woke it: nothing of it was for this watch.
func (w *Watch) skipLocked() {
	if w.woken.rev == 0 {
		return
	}
	w.next, w.after = max(w.next, w.woken.number), max(w.after, w.woken.rev-1)
	w.woken.number, w.woken.rev = 0, 0
}
