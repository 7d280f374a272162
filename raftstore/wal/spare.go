package wal

import (
	"fmt"

	"reconcile/raftstore/disk"
)

// prepareSoon has a goroutine make the next segment's file, if none is ready or under way. The caller holds write.
func (w *Log) prepareSoon(size int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.spare > 0 || w.making != nil || w.spareErr != nil {
		return
	}
	done := make(chan struct{})
	w.making = done
	w.wg.Go(func() {
		defer close(done)
		err := prepare(w.opt.FS, w.opt.Dir, size)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.making = nil
		if err != nil {
			w.spareErr = err // the append that needs it tries again if the disk was full, and then says so
			w.opt.Logger.Warn("the next file of the log cannot be made: writes stop when the present one is full", "error", err)
			return
		}
		w.spare = size
	})
}

// ready returns when there is a spare file of at least size bytes. The caller holds write.
func (w *Log) ready(size int64) error {
	w.mu.Lock()
	making := w.making
	w.mu.Unlock()
	if making != nil {
		<-making
	}
	w.mu.Lock()
	failed := w.spareErr
	w.mu.Unlock()
	if failed != nil && !disk.NoSpace(failed) {
		return failed // not tried again: a disk that could not sync once is not trusted
	}
	if w.spareSize() >= size {
		return nil
	}
	err := prepare(w.opt.FS, w.opt.Dir, size)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spareErr = nil
	switch {
	case err != nil && disk.NoSpace(err):
		w.spare = 0
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	case err != nil:
		w.spare = 0
		return err
	}
	w.spare = size
	return nil
}

func (w *Log) spareSize() int64 {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.spare
}
