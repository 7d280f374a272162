package sequencer

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"time"

	"reconcile/controller"
	"reconcile/object"
	"reconcile/raftstore"
)

// sealed is a batch made ready for the log.
type sealed struct {
	entry raftstore.Entry
	// changes are the entry's, with New decoded from the very bytes that are proposed, so that this server goes on with what
	// all others will read.
	changes []controller.Change
	last    uint64
}

// parallelFrom is the number of changes from which encoding is shared out over the processors.
const parallelFrom = 32

// seal gives every change its revision, bakes it into the object as its resourceVersion and encodes all. It sets the resourceVersion
// of the changes' New objects, which nobody else has yet.
func seal(base uint64, now time.Time, list []controller.Change, raw *rawLayer) (sealed, error) {
	s := sealed{
		entry:   raftstore.Entry{Base: base, Time: now.UnixNano(), Ops: make([]raftstore.Op, len(list), len(list)+len(raw.order))},
		changes: make([]controller.Change, len(list)),
		last:    base + uint64(len(list)+len(raw.order)),
	}
	if err := inParallel(len(list), func(i int) error { return s.one(i, list[i]) }); err != nil {
		return sealed{}, err
	}
	for _, key := range raw.order {
		v := raw.own[key]
		op := raftstore.Op{Kind: raftstore.Put, Key: key, Value: v.value}
		switch {
		case v.absent:
			op.Kind = raftstore.Delete
		case v.ref:
			op.Kind = raftstore.PutRef
		}
		s.entry.Ops = append(s.entry.Ops, op)
	}
	return s, nil
}

func (s *sealed) one(i int, ch controller.Change) (err error) {
	defer func() {
		if p := recover(); p != nil { // in a goroutine of its own nothing above would catch it
			err = fmt.Errorf("encode %s: %s", ch.Key, controller.PanicText(p))
		}
	}()
	s.changes[i] = ch
	if ch.New == nil {
		s.entry.Ops[i] = raftstore.Op{Kind: raftstore.Delete, Key: ch.Key.Path()}
		return nil
	}
	ch.New.SetResourceVersion(strconv.FormatUint(s.entry.Base+1+uint64(i), 10))
	body, err := object.Encode(ch.New)
	if err != nil {
		return err
	}
	stored, err := object.Decode(body)
	if err != nil {
		return fmt.Errorf("read back %s: %w", ch.Key, err)
	}
	s.changes[i].New = stored
	s.entry.Ops[i] = raftstore.Op{Kind: raftstore.Put, Key: ch.Key.Path(), Value: body, Decoded: stored}
	return nil
}

// inParallel calls f for 0..n-1, on several processors if there are many, and waits.
func inParallel(n int, f func(int) error) error {
	workers := min(runtime.GOMAXPROCS(0), n/parallelFrom+1)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		run := func() {
			for i := w * n / workers; i < (w+1)*n/workers && errs[w] == nil; i++ {
				errs[w] = f(i)
			}
		}
		if w == workers-1 {
			run()
		} else {
			wg.Go(run)
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}
