package faulttest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// LoadConfig is how many clients and watchers there are. The zero value has, a member, three clients of raw keys, one of etcd's transactions,
// one of objects, one that keeps leases, one that takes locks, and two watchers, on 50 keys, 10 pairs of keys and 10 objects.
type LoadConfig struct {
	Clients, Watchers, Keys int
	// Think is the mean pause of a client between two operations. Default 4 ms.
	Think time.Duration
	// Timeout is how long a client waits for an answer. Default 3 s.
	Timeout time.Duration
}

// pairs and objects are how many pairs of keys and how many objects there are.
const pairs, objects = 10, 10

// Load is the clients and watchers at work, and what they saw.
type Load struct {
	c *Cluster
	// members are those that clients and watchers are pinned to, by place.
	members []atomic.Pointer[Member]
	cfg     LoadConfig
	began   time.Time
	stop    context.CancelFunc
	wg      sync.WaitGroup
	ledger  *ledger
	leases  *leaseBook
	dice    *Dice
	// acked is the latest call of a write that was acknowledged.
	acked atomic.Int64

	mu  sync.Mutex
	ops []operation
}

// Load starts clients and watchers. Finish ends them.
func (c *Cluster) Load(cfg LoadConfig) *Load {
	c.t.Helper()
	orInt(&cfg.Clients, 3*len(c.Members))
	orInt(&cfg.Watchers, 2*len(c.Members))
	orInt(&cfg.Keys, 50)
	if cfg.Think == 0 {
		cfg.Think = 4 * time.Millisecond
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 3 * time.Second
	}
	ctx, stop := context.WithCancel(context.Background())
	l := &Load{c: c, members: make([]atomic.Pointer[Member], len(c.Members)), cfg: cfg, began: time.Now(), stop: stop, ledger: newLedger(), leases: newLeaseBook(), dice: NewDice(c.t, "load")}
	for i, m := range c.Members {
		l.members[i].Store(m)
	}
	c.t.Cleanup(func() { l.stop(); l.wg.Wait() })
	for i := range cfg.Clients {
		l.wg.Go(func() { l.client(ctx, i, &l.members[i%len(l.members)], l.drawRaw) })
	}
	for i := range l.members {
		at, id := &l.members[i], cfg.Clients+10*i
		l.wg.Go(func() { l.client(ctx, id, at, l.drawEtcd) })
		l.wg.Go(func() { l.client(ctx, id+1, at, l.drawObject) })
		l.wg.Go(func() { l.keepLeases(ctx, id+2, at) })
		l.wg.Go(func() { l.takeLocks(ctx, id+3, at) })
	}
	for i := range cfg.Watchers {
		l.wg.Go(func() { l.watcher(ctx, i) })
	}
	l.Acknowledged(leaderWithin)
	return l
}

func orInt(v *int, d int) {
	if *v == 0 {
		*v = d
	}
}

// Now is the clock of the history.
func (l *Load) Now() int64 { return l.now() }

func (l *Load) now() int64 { return int64(time.Since(l.began)) }

// known is what a client knows of a key: the last value that it read or wrote, and its resourceVersion.
type known map[string]output

// client does one operation after the other on its member, until ctx ends.
func (l *Load) client(ctx context.Context, id int, at *atomic.Pointer[Member], draw func(value string, seen known) input) {
	seen := known{}
	for n := 0; ctx.Err() == nil; n++ {
		in := draw(fmt.Sprintf("%d.%d", id, n), seen)
		op := l.do(ctx, id, at.Load(), in)
		switch {
		case op.Out.Failed != "" || op.Out.Unknown != "":
			pause(ctx, 50*time.Millisecond)
		case !in.writes(), op.Out.Stale && in.overEtcd():
			seen[in.Key] = op.Out
		case !op.Out.Stale:
			seen[in.Key] = output{Value: in.Value, Version: op.Out.Version}
		}
		pause(ctx, l.dice.UpTo(2*l.cfg.Think))
	}
}

// drawRaw draws an operation: half reads, a quarter puts, a fifth compare-and-swaps, the rest deletes. Values are unique.
func (l *Load) drawRaw(value string, seen known) input {
	in := input{Key: fmt.Sprintf("%s%03d", keyPrefix, l.dice.IntN(l.cfg.Keys))}
	switch d := l.dice.IntN(20); {
	case d < 10:
		in.Kind = opGet
		return in
	case d < 15:
		in.Kind = opPut
	case d < 19:
		in.Kind, in.Expect = opCAS, seen[in.Key].Value
	default:
		in.Kind = opDelete
		return in
	}
	in.Value = value
	return in
}

// drawEtcd draws transactions on the same keys, and on pairs of others.
func (l *Load) drawEtcd(value string, seen known) input {
	in := input{Key: fmt.Sprintf("%s%03d", keyPrefix, l.dice.IntN(l.cfg.Keys))}
	kinds := [2]string{opEtcdGet, opEtcdTxn}
	if l.dice.IntN(2) == 0 {
		in.Key, kinds = fmt.Sprintf("%s%03d", pairPrefix, l.dice.IntN(pairs)), [2]string{opPairGet, opPairTxn}
	}
	return l.compared(in, kinds, value, seen)
}

// drawObject draws reads and writes of ConfigMaps.
func (l *Load) drawObject(value string, seen known) input {
	in := input{Key: fmt.Sprintf("o%03d", l.dice.IntN(objects))}
	return l.compared(in, [2]string{opObjectGet, opObjectSet}, value, seen)
}

// compared makes of an operation a read, or a write that compares with what the client knows: a tenth of them delete.
func (l *Load) compared(in input, kinds [2]string, value string, seen known) input {
	if l.dice.IntN(3) == 0 {
		in.Kind = kinds[0]
		return in
	}
	was := seen[in.Key]
	in.Kind, in.Expect, in.Version, in.Value = kinds[1], was.Value, was.Version, value
	if in.Expect != "" && l.dice.IntN(10) == 0 {
		in.Value = ""
	}
	return in
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// do performs one operation and notes it.
func (l *Load) do(ctx context.Context, id int, m *Member, in input) operation {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	op := operation{Client: id, Member: m.ID, In: in, Call: l.now()}
	op.Out = m.operate(ctx, in)
	op.Return = l.now()
	l.mu.Lock()
	l.ops = append(l.ops, op)
	l.mu.Unlock()
	if op.Out.Rev > 0 {
		for {
			was := l.acked.Load()
			if was >= op.Call || l.acked.CompareAndSwap(was, op.Call) {
				break
			}
		}
	}
	return op
}

// operate asks the member. What could not be sent did not happen.
func (m *Member) operate(ctx context.Context, in input) output {
	if in.overEtcd() {
		return m.operateEtcd(ctx, in)
	}
	body, err := json.Marshal(in)
	if err != nil {
		return output{Failed: err.Error()}
	}
	sent, ctx := noteSent(ctx)
	b, err := post(ctx, m.client, m.address, "/op", body)
	var out output
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	switch {
	case err != nil && sent.Load():
		return output{Unknown: err.Error()}
	case err != nil:
		return output{Failed: err.Error()}
	}
	return out
}

// Acknowledged waits until a write is acknowledged that began after this call, and returns how long that took. It fails the test if none
// is in time (Bound).
func (l *Load) Acknowledged(within time.Duration) time.Duration {
	l.c.t.Helper()
	within = Bound(within)
	began := l.now()
	for l.acked.Load() < began {
		if time.Duration(l.now()-began) > within {
			l.c.t.Fatalf("no write was acknowledged for %s: %+v", within, l.c.Statuses())
		}
		time.Sleep(2 * time.Millisecond)
	}
	return time.Duration(l.now() - began)
}

// Replace lets the clients and watchers of one member turn to another.
func (l *Load) Replace(old, by *Member) {
	for i := range l.members {
		l.members[i].CompareAndSwap(old, by)
	}
}

// Settled waits until a leader is there and a write that began after this call is acknowledged.
func (l *Load) Settled(within time.Duration) {
	l.c.t.Helper()
	l.c.Leader()
	l.Acknowledged(within)
}

// AcknowledgedOnAll waits until every member has acknowledged a write that began after this call; it fails the test if one has not in time (Bound).
func (l *Load) AcknowledgedOnAll(within time.Duration) {
	l.c.t.Helper()
	within = Bound(within)
	began := l.now()
	for {
		seen := map[string]bool{}
		l.mu.Lock()
		for i := len(l.ops) - 1; i >= 0 && l.ops[i].Return >= began; i-- {
			if op := l.ops[i]; op.Out.Rev > 0 && op.Call >= began {
				seen[op.Member] = true
			}
		}
		l.mu.Unlock()
		if len(seen) == len(l.c.Members) {
			return
		}
		if time.Duration(l.now()-began) > within {
			l.c.t.Fatalf("within %s only %v of the members acknowledged a write: %+v", within, seen, l.c.Statuses())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// grace is what may still have been on its way when a partition was cut.
const grace = 100 * time.Millisecond

// NothingOn fails the test if a member that reached nobody from one time to another acknowledged a write or a read that began and ended between them.
func (l *Load) NothingOn(m *Member, from, to int64) {
	l.c.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	tried := 0
	for _, op := range l.ops {
		if op.Member != m.ID || op.Call < from+int64(grace) || op.Return > to {
			continue
		}
		tried++
		if op.Out.Failed == "" && op.Out.Unknown == "" {
			l.c.t.Errorf("%s reached nobody, but answered %s", m.ID, describe(op.In, op.Out))
		}
	}
	l.c.t.Logf("%d operations began and ended in vain on %s while it reached nobody", tried, m.ID)
}

// Operations is how many there were until now.
func (l *Load) Operations() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ops)
}

// watcher follows all keys on its member, breaks off now and then, and goes on where it was, or a little before. Where the history does not
// reach back so far it turns to the next member, and begins anew when none reaches back.
func (l *Load) watcher(ctx context.Context, id int) {
	at, turned := id, 0
	var from uint64
	for ctx.Err() == nil {
		m := l.members[at%len(l.members)].Load()
		s := l.ledger.open(m.ID, from)
		life, cancel := context.WithTimeout(ctx, 500*time.Millisecond+l.dice.UpTo(4*time.Second))
		gone := l.follow(life, m, s)
		cancel()
		back := 0
		if l.dice.IntN(3) == 0 {
			back = l.dice.IntN(200)
		}
		from = l.ledger.position(s, back)
		if turned++; !gone {
			turned = 0
		} else if at++; turned > len(l.members) {
			if now, err := m.Status(time.Second); err == nil {
				from = now.Rev
			}
		}
		pause(ctx, l.dice.UpTo(50*time.Millisecond))
	}
}

// follow reads one stream to its end. It tells whether the member's history did not reach back to its beginning.
func (l *Load) follow(ctx context.Context, m *Member, s *stream) (gone bool) {
	q := url.Values{"from": {fmt.Sprint(s.from)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(m.address, rpcPort)+"/watch?"+q.Encode(), nil)
	if err != nil {
		return false
	}
	res, err := m.client.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			return false // the member died in the middle of a line
		}
		l.ledger.take(s, e)
		gone = gone || e.Gone
	}
	return gone
}
