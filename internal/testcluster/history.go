package testcluster

import (
	"encoding/json"
	"os"
	"sync"
	"testing"
	"time"
)

// Moment is one thing that happened.
type Moment struct {
	At   time.Time `json:"at"`
	Who  string    `json:"who"`
	What string    `json:"what"`
	Rev  uint64    `json:"rev,omitempty"`
}

// History is all moments of a run, in the order in which they were noted.
type History struct {
	mu      sync.Mutex
	moments []Moment
}

func newHistory() *History { return &History{} }

func (h *History) note(who, what string, rev uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.moments = append(h.moments, Moment{At: time.Now(), Who: who, What: what, Rev: rev})
}

// Moments is a copy of what was noted so far.
func (h *History) Moments() []Moment {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Moment(nil), h.moments...)
}

// save writes the history as JSON lines and says where.
func (h *History) save(t testing.TB) {
	f, err := os.CreateTemp("", "testcluster-*.jsonl")
	if err != nil {
		t.Logf("the history could not be kept: %v", err)
		return
	}
	defer f.Close()
	enc := json.NewEncoder(f)
	for _, m := range h.Moments() {
		if err := enc.Encode(m); err != nil {
			t.Logf("the history could not be kept: %v", err)
			return
		}
	}
	t.Logf("the history of this run is in %s", f.Name())
}
