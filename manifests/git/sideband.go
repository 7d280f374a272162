package git

import (
	"io"
	"sync"
	"time"
)

// keepAlive is how often a silent answer sends an empty packet, so that proxies and clients do not give up (as git's
// receive.keepAlive).
const keepAlive = 5 * time.Second

// The bands of side-band-64k.
const (
	bandData     = 1
	bandProgress = 2
)

// answer writes a response. With a side-band, data and the user's words share the stream; without, words are dropped.
type answer struct {
	band bool

	mu  sync.Mutex
	w   io.Writer
	err error
}

// Write sends data: on band 1, or plainly where there is no side-band.
func (a *answer) Write(p []byte) (int, error) {
	if !a.band {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.raw(p)
		return len(p), a.err
	}
	return len(p), a.send(bandData, p)
}

// remote is the writer of the user's words.
func (a *answer) remote() io.Writer { return remoteWriter{a} }

type remoteWriter struct{ a *answer }

// Write sends words on band 2 and flushes, so that the user sees them at once.
func (r remoteWriter) Write(p []byte) (int, error) {
	if !r.a.band {
		return len(p), nil
	}
	err := r.a.send(bandProgress, p)
	r.a.flush()
	return len(p), err
}

func (a *answer) send(band byte, p []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(p) > 0 {
		n := min(len(p), maxBand)
		a.raw(appendPkt(nil, "%c%s", band, p[:n]))
		p = p[n:]
	}
	return a.err
}

// raw writes with mu held and keeps the first error.
func (a *answer) raw(p []byte) {
	if a.err == nil {
		_, a.err = a.w.Write(p)
	}
}

// end finishes a side-band stream.
func (a *answer) end() error {
	a.mu.Lock()
	if a.band {
		a.raw([]byte("0000"))
	}
	err := a.err
	a.mu.Unlock()
	a.flush()
	return err
}

func (a *answer) flush() {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch f := a.w.(type) {
	case interface{ Flush() error }:
		if err := f.Flush(); a.err == nil {
			a.err = err
		}
	case interface{ Flush() }:
		f.Flush()
	}
}

// alive sends an empty packet every keepAlive until stop is called; stop waits for it to end.
func (a *answer) alive() (stop func()) {
	if !a.band {
		return func() {}
	}
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		t := time.NewTicker(keepAlive)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
				a.mu.Lock()
				a.raw(appendPkt(nil, "%c", bandData))
				a.mu.Unlock()
				a.flush()
			}
		}
	}()
	return func() { close(done); <-gone }
}
