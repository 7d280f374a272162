package api

import (
	"net/http"
	"time"
)

// writeTimeout is the default of Config.WriteTimeout. A watcher has less time, for it loses nothing: it resumes where it was.
const (
	writeTimeout = 30 * time.Second
	watchTimeout = 10 * time.Second
)

// paceBytes is how much of an answer a client must take within Config.WriteTimeout, but of one that is written in larger parts a part (largeWrite).
const paceBytes = 64 << 10

// pace gives writes a deadline: a client that does not read must hold neither a goroutine nor a slot. It is an io.Writer.
type pace struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	limit time.Duration
	// since is when the deadline was set, zero if none is; taken is what was written since.
	since time.Time
	taken int
}

func newPace(w http.ResponseWriter, limit time.Duration) *pace {
	return &pace{w: w, rc: http.NewResponseController(w), limit: limit}
}

// Write implements io.Writer.
func (p *pace) Write(b []byte) (int, error) {
	done := 0
	for {
		part := b[done:min(len(b), done+largeWrite)]
		p.set(len(part))
		n, err := p.w.Write(part)
		if done += n; err != nil || done == len(b) {
			return done, err
		}
	}
}

func (p *pace) set(n int) {
	if !p.since.IsZero() && p.taken+n <= paceBytes {
		p.taken += n
		return
	}
	p.since, p.taken = time.Now(), n
	_ = p.rc.SetWriteDeadline(p.since.Add(p.limit)) // only a test's writer has none
}
