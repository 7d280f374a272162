package faulttest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// judgeWithin is how long porcupine may think; then its answer is "unknown", which fails.
const judgeWithin = 3 * time.Minute

// catchUpWithin is how long the watchers may take to see the last revision.
const catchUpWithin = 30 * time.Second

// Verdict is what a run came to, for the table.
type Verdict struct {
	Operations, Writes, Unknown, Events, Streams, Gone int
	// Transactions over etcd's API and writes of objects are among the operations; renewals of leases and locks taken are not.
	Transactions, Objects, Renewals, Locks int
}

// Finish ends the load and judges it: every key is read once more on every member, all members come to one state, the watchers come to its
// revision, every member is restarted and has the same state, and every history is what it should be. All members must run. It fails
// the test if there were fewer than minimum operations.
func (l *Load) Finish(minimum int) Verdict {
	l.c.t.Helper()
	l.enough(minimum)
	l.finalReads()
	l.stop()
	l.wg.Wait()
	l.leasesVanish()
	rev, digest := l.c.Equal(l.lastRev())
	l.catchUp(rev)
	l.restart(rev, digest)
	return l.judge(minimum)
}

// enoughWithin is how long the load may go on behind the faults, on a slow machine, until there are enough operations to judge.
const enoughWithin = 2 * time.Minute

// enough lets the load go on until there are enough operations, or for as long as it may.
func (l *Load) enough(minimum int) {
	for deadline := time.Now().Add(enoughWithin); time.Now().Before(deadline) && l.counts().little(minimum) != ""; {
		time.Sleep(100 * time.Millisecond)
	}
}

// counts counts the operations so far.
func (l *Load) counts() (v Verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v.Operations = len(l.ops)
	for _, op := range l.ops {
		if op.Out.Rev > 0 {
			v.Writes++
		}
		if op.Out.Unknown != "" {
			v.Unknown++
		}
		switch {
		case op.Out.Rev > 0 && op.In.overEtcd():
			v.Transactions++
		case op.Out.Rev > 0 && op.In.Kind == opObjectSet:
			v.Objects++
		}
	}
	v.Renewals, v.Locks = l.leases.counts()
	return v
}

// little says what there is too little of to prove much, or nothing.
func (v Verdict) little(minimum int) string {
	least := minimum / 50
	switch {
	case v.Operations < minimum || v.Writes < minimum/5:
		return fmt.Sprintf("%d operations with %d acknowledged writes: fewer than %d and %d prove too little", v.Operations, v.Writes, minimum, minimum/5)
	case v.Transactions < least || v.Objects < least || v.Renewals < least/2 || v.Locks < least/4:
		return fmt.Sprintf("%d transactions, %d writes of objects, %d renewals of leases, %d locks taken: fewer than %d, %d, %d and %d prove too little",
			v.Transactions, v.Objects, v.Renewals, v.Locks, least, least, least/2, least/4)
	}
	return ""
}

// lastRev is the greatest revision that was acknowledged.
func (l *Load) lastRev() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var rev uint64
	for _, op := range l.ops {
		rev = max(rev, op.Out.Rev)
	}
	return rev
}

// finalReads reads every key on every member, so that a write that was lost cannot hide. Clients are still at work.
func (l *Load) finalReads() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l.c.Leader()
	var reads []input
	for k := range l.cfg.Keys {
		reads = append(reads, input{Kind: opGet, Key: fmt.Sprintf("%s%03d", keyPrefix, k)})
	}
	for k := range pairs {
		reads = append(reads, input{Kind: opPairGet, Key: fmt.Sprintf("%s%03d", pairPrefix, k)})
	}
	for k := range objects {
		reads = append(reads, input{Kind: opObjectGet, Key: fmt.Sprintf("o%03d", k)})
	}
	for i, m := range l.c.Members {
		for _, in := range reads {
			for ctx.Err() == nil {
				op := l.do(ctx, -1-i, m, in)
				if op.Out.Failed == "" && op.Out.Unknown == "" {
					break
				}
				pause(ctx, 50*time.Millisecond)
			}
		}
	}
	if ctx.Err() != nil {
		l.c.t.Errorf("the last reads did not end within a minute: %+v", l.c.Statuses())
	}
}

// catchUp watches every member once more, up to the last revision, from as far before it as the member's history reaches.
func (l *Load) catchUp(rev uint64) {
	l.c.t.Helper()
	for _, m := range l.c.Members {
		for back := min(rev, 512); ; back /= 2 {
			gone, reached := l.watchUpTo(m, rev-back, rev)
			if gone && back > 0 {
				continue
			}
			if reached < rev {
				l.c.t.Errorf("a watch on %s from revision %d came to %d, not to the last, %d", m.ID, rev-back, reached, rev)
			}
			break
		}
	}
}

// watchUpTo follows a member from one revision until the watch has come to another, or ends.
func (l *Load) watchUpTo(m *Member, from, rev uint64) (gone bool, reached uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), catchUpWithin)
	defer cancel()
	s := l.ledger.open(m.ID, from)
	done := make(chan struct{})
	go func() {
		defer close(done)
		gone = l.follow(ctx, m, s)
	}()
	for ctx.Err() == nil && l.ledger.position(s, 0) < rev && !closed(done) {
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	<-done
	return gone, l.ledger.position(s, 0)
}

func closed(ch chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// restart kills and starts all members: log and snapshot make the same state again. A write that its client has given up may still come
// at that moment; then it is tried again.
func (l *Load) restart(rev uint64, digest string) {
	l.c.t.Helper()
	for range 3 {
		for _, m := range l.c.Members {
			m.Kill()
		}
		for _, m := range l.c.Members {
			m.Start()
		}
		l.c.Leader()
		againRev, again := l.c.Equal(rev)
		if againRev == rev && again == digest {
			return
		}
		if againRev == rev || l.c.t.Failed() {
			l.c.t.Errorf("at revision %d the state was %s, and is %s after a restart of all", rev, digest, again)
			return
		}
		rev, digest = againRev, again
	}
	l.c.t.Errorf("the state moves on without clients: revision %d", rev)
}

// judge looks at the histories. It keeps them if the test has failed.
func (l *Load) judge(minimum int) Verdict {
	t := l.c.t
	t.Helper()
	v := l.counts()
	v.Events, v.Streams, v.Gone = len(l.ledger.facts), len(l.ledger.streams), l.ledger.gone
	if little := v.little(minimum); little != "" {
		t.Error(little)
	}
	for _, f := range append(l.ledger.check(l.ops), l.leases.check()...) {
		t.Error(f)
	}
	began := time.Now()
	res, info, faulty := linearizable(l.ops)
	if res != porcupine.Ok {
		t.Errorf("the history of %d operations is not linearizable: porcupine says %s, of %s", len(l.ops), res, strings.Join(faulty, ", "))
	}
	t.Logf("%d operations, %d writes acknowledged (%d transactions, %d objects), %d of unknown outcome; %d renewals of leases, %d locks; %d events in %d watches, "+
		"%d too far back; porcupine took %s", v.Operations, v.Writes, v.Transactions, v.Objects, v.Unknown, v.Renewals, v.Locks, v.Events, v.Streams, v.Gone,
		time.Since(began).Round(time.Millisecond))
	if t.Failed() {
		l.keep(info)
	}
	return v
}

// keep writes the histories into the cluster's folder.
func (l *Load) keep(info porcupine.LinearizationInfo) {
	t := l.c.t
	picture := filepath.Join(l.c.dir, "history.html")
	if err := porcupine.VisualizePath(register, info, picture); err != nil {
		t.Logf("draw the history: %v", err)
	}
	name := filepath.Join(l.c.dir, "history.jsonl")
	f, err := os.Create(name)
	if err != nil {
		t.Logf("keep the history: %v", err)
		return
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	out := json.NewEncoder(w)
	for _, op := range l.ops {
		if err := out.Encode(op); err != nil {
			t.Logf("keep the history: %v", err)
		}
	}
	for _, h := range l.leases.holds {
		if err := out.Encode(h); err != nil {
			t.Logf("keep the history of locks: %v", err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Logf("keep the history: %v", err)
	}
	t.Logf("the history is kept in %s, porcupine's picture in %s", name, picture)
}
