package faulttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// leaseTTL is the TTL of all leases of the load, in seconds.
const leaseTTL = 2

// locks is how many locks the clients share.
const locks = 3

// Keys of leases, of locks, and of what the locks guard.
const (
	leasePrefix = "/lease/"
	lockPrefix  = "/lock/"
	guardPrefix = "/guard/"
)

// hold is one time that a client had a lock, in nanoseconds since the load began. Its lease was certainly there from Return to Until at least:
// whoever granted or renewed it began to count after the call.
type hold struct {
	Lock   int    `json:"lock"`
	Client int    `json:"client"`
	Token  uint64 `json:"token"`
	Call   int64  `json:"call"`
	Return int64  `json:"return"`
	Until  int64  `json:"until"`
}

// guarded is one write that a lock guarded: its revision and the token that it was made with.
type guarded struct {
	lock       int
	rev, token uint64
}

// leaseBook is what clients saw of leases and locks. Safe for concurrent use.
type leaseBook struct {
	mu       sync.Mutex
	renewals int
	holds    []hold
	guards   []guarded
	faults   []string
}

func newLeaseBook() *leaseBook { return &leaseBook{} }

func (b *leaseBook) counts() (renewals, locks int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.renewals, len(b.holds)
}

func (b *leaseBook) fault(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.faults) < maxFaults {
		b.faults = append(b.faults, fmt.Sprintf(format, args...))
	}
}

// check judges the locks: tokens are unique and grow with time, nobody got a lock while another certainly had it, and what the locks guard
// was written with growing tokens.
func (b *leaseBook) check() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := slices.Clone(b.faults)
	for lock := range locks {
		var holds []hold
		for _, h := range b.holds {
			if h.Lock == lock {
				holds = append(holds, h)
			}
		}
		slices.SortFunc(holds, func(x, y hold) int { return int(int64(x.Token) - int64(y.Token)) })
		var until, returned hold // those of the latest Until and the latest Call so far
		for _, h := range holds {
			switch {
			case h.Token == until.Token:
				out = append(out, fmt.Sprintf("two clients hold a lock with one token: %+v and %+v", until, h))
			case h.Return < returned.Call:
				out = append(out, fmt.Sprintf("tokens do not grow: %+v was before %+v", h, returned))
			case h.Return < until.Until:
				out = append(out, fmt.Sprintf("a lock was taken while another held it: %+v and then %+v", until, h))
			}
			if h.Until > until.Until {
				until = h
			}
			if h.Call > returned.Call {
				returned = h
			}
		}
		out = append(out, b.guardedLocked(lock)...)
	}
	return out[:min(len(out), maxFaults)]
}

func (b *leaseBook) guardedLocked(lock int) (out []string) {
	var writes []guarded
	for _, g := range b.guards {
		if g.lock == lock {
			writes = append(writes, g)
		}
	}
	slices.SortFunc(writes, func(x, y guarded) int { return int(int64(x.rev) - int64(y.rev)) })
	for i := 1; i < len(writes); i++ {
		if writes[i].token < writes[i-1].token {
			out = append(out, fmt.Sprintf("what lock %d guards was written with an older token: %+v after %+v", lock, writes[i], writes[i-1]))
		}
	}
	return out
}

// lease is one lease of one client. Until sure, at least, it is there: its grant or last renewal began less than a TTL before.
type lease struct {
	l    *Load
	c    *clientv3.Client
	id   clientv3.LeaseID
	sure int64
}

// begin asks for a call's context. The caller must cancel it.
func (l *Load) begin(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, l.cfg.Timeout)
}

// grant makes a lease, nil if that failed.
func (l *Load) grant(ctx context.Context, m *Member) *lease {
	c, err := m.etcd()
	if err != nil {
		return nil
	}
	ctx, cancel := l.begin(ctx)
	defer cancel()
	called := l.now()
	res, err := c.Grant(ctx, leaseTTL)
	if err != nil {
		return nil
	}
	return &lease{l: l, c: c, id: res.ID, sure: called + res.TTL*int64(time.Second)}
}

// renew renews the lease. It tells whether the lease is known to be there still.
func (s *lease) renew(ctx context.Context) bool {
	ctx, cancel := s.l.begin(ctx)
	defer cancel()
	called := s.l.now()
	res, err := s.c.KeepAliveOnce(ctx, s.id)
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		s.gone("a renewal")
		return false
	case err != nil:
		return s.l.now() < s.sure
	}
	s.sure = called + res.TTL*int64(time.Second)
	s.l.leases.mu.Lock()
	s.l.leases.renewals++
	s.l.leases.mu.Unlock()
	return true
}

// gone notes that something found the lease ended, which is wrong as long as it is sure.
func (s *lease) gone(how string) {
	if now := s.l.now(); now < s.sure {
		s.l.leases.fault("%s found lease %d ended %s before its time", how, s.id, time.Duration(s.sure-now))
	}
}

// holds looks whether a key of the lease is there, which it is as long as the lease is.
func (s *lease) holds(ctx context.Context, key string) (ok bool) {
	ctx, cancel := s.l.begin(ctx)
	defer cancel()
	res, err := s.c.Get(ctx, key)
	if err == nil && len(res.Kvs) == 0 {
		s.gone("a read of " + key)
		return false
	}
	return err == nil
}

// keepLeases grants leases, hangs a key on each, renews them for a while and then revokes or forgets them.
func (l *Load) keepLeases(ctx context.Context, id int, at *atomic.Pointer[Member]) {
	for n := 0; ctx.Err() == nil; n++ {
		l.keepLease(ctx, at.Load(), fmt.Sprintf("%s%d.%d", leasePrefix, id, n))
		pause(ctx, l.dice.UpTo(100*time.Millisecond))
	}
}

func (l *Load) keepLease(ctx context.Context, m *Member, key string) {
	s := l.grant(ctx, m)
	if s == nil {
		pause(ctx, 50*time.Millisecond)
		return
	}
	call, cancel := l.begin(ctx)
	_, err := s.c.Put(call, key, "held", clientv3.WithLease(s.id))
	cancel()
	if err != nil {
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			s.gone("a put")
		}
		return
	}
	for range 2 + l.dice.IntN(20) {
		if !s.holds(ctx, key) || !s.renew(ctx) {
			return
		}
		pause(ctx, l.dice.UpTo(400*time.Millisecond))
	}
	if l.dice.IntN(2) == 0 {
		return // it runs out
	}
	call, cancel = l.begin(ctx)
	defer cancel()
	if _, err := s.c.Revoke(call, s.id); err != nil {
		return
	}
	if res, err := s.c.Get(call, key); err == nil && len(res.Kvs) > 0 {
		l.leases.fault("%s is there after its lease %d was revoked", key, s.id)
	}
}

// takeLocks takes one lock after the other: a key that only who finds it absent may write, with a lease; the revision of that is the token.
func (l *Load) takeLocks(ctx context.Context, id int, at *atomic.Pointer[Member]) {
	for ctx.Err() == nil {
		s := l.grant(ctx, at.Load())
		if s == nil {
			pause(ctx, 50*time.Millisecond)
			continue
		}
		lock := l.dice.IntN(locks)
		for ctx.Err() == nil {
			if l.takeLock(ctx, s, id, lock) {
				break
			}
			pause(ctx, l.dice.UpTo(100*time.Millisecond))
			if !s.renew(ctx) {
				break
			}
		}
	}
}

// takeLock tries once, and holds and gives up the lock if it got it. done tells that the lease is of no more use.
func (l *Load) takeLock(ctx context.Context, s *lease, id, lock int) (done bool) {
	key := fmt.Sprint(lockPrefix, lock)
	h := hold{Lock: lock, Client: id, Call: l.now()}
	call, cancel := l.begin(ctx)
	res, err := s.c.Txn(call).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).Then(clientv3.OpPut(key, fmt.Sprint(id), clientv3.WithLease(s.id))).Commit()
	cancel()
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		s.gone("a transaction")
	}
	if err != nil {
		l.drop(ctx, s)
		return true
	}
	if !res.Succeeded {
		return false
	}
	h.Return, h.Token = l.now(), uint64(res.Header.Revision)
	mine := clientv3.Compare(clientv3.CreateRevision(key), "=", int64(h.Token))
	for range l.dice.IntN(4) {
		l.guard(ctx, s, mine, lock, h.Token)
		pause(ctx, l.dice.UpTo(100*time.Millisecond))
		if !s.renew(ctx) {
			break
		}
	}
	h.Until = min(s.sure, l.now())
	l.leases.mu.Lock()
	l.leases.holds = append(l.leases.holds, h)
	l.leases.mu.Unlock()
	switch l.dice.IntN(8) {
	case 0: // it runs out, where a leader lives for long enough to let it
		pause(ctx, time.Duration(max(0, s.sure-l.now()))+2*time.Second)
		l.drop(ctx, s)
	case 1, 2:
		l.drop(ctx, s)
	default:
		call, cancel := l.begin(ctx)
		defer cancel()
		if _, err := s.c.Txn(call).If(mine).Then(clientv3.OpDelete(key)).Commit(); err != nil {
			l.drop(ctx, s)
		}
	}
	return true
}

// drop ends a lease whose lock may be held, for as long as a fault may last. What it cannot end runs out; but not where a leader dies every second, for
// each new one gives leases their whole time: soon nobody would get a lock.
func (l *Load) drop(ctx context.Context, s *lease) {
	for range 30 {
		call, cancel := l.begin(ctx)
		_, err := s.c.Revoke(call, s.id)
		cancel()
		if err == nil || errors.Is(err, rpctypes.ErrLeaseNotFound) || ctx.Err() != nil {
			return
		}
		pause(ctx, 100*time.Millisecond)
	}
}

// guard writes what a lock guards, as long as the lock is the token's.
func (l *Load) guard(ctx context.Context, s *lease, mine clientv3.Cmp, lock int, token uint64) {
	ctx, cancel := l.begin(ctx)
	defer cancel()
	res, err := s.c.Txn(ctx).If(mine).Then(clientv3.OpPut(fmt.Sprint(guardPrefix, lock), fmt.Sprint(token))).Commit()
	switch {
	case err != nil:
	case res.Succeeded:
		l.leases.mu.Lock()
		l.leases.guards = append(l.leases.guards, guarded{lock, uint64(res.Header.Revision), token})
		l.leases.mu.Unlock()
	default:
		s.gone("a guarded write")
	}
}

// vanishWithin is how long the last leases may take to run out: a leader of the last moment gives each its grace.
const vanishWithin = time.Minute

// leasesVanish waits until no lease and no key of one is left: all clients have ended.
func (l *Load) leasesVanish() {
	l.c.t.Helper()
	var last string
	for deadline := time.Now().Add(vanishWithin); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if last = l.leasesLeft(); last == "" {
			return
		}
	}
	l.c.t.Errorf("%s after all clients ended, leases or keys of leases are left: %s", vanishWithin, last)
}

// leasesLeft tells what is left, "" for nothing.
func (l *Load) leasesLeft() string {
	c, err := l.c.Leader().etcd()
	if err != nil {
		return err.Error()
	}
	ctx, cancel := l.begin(context.Background())
	defer cancel()
	res, err := c.Leases(ctx)
	if err != nil {
		return err.Error()
	}
	if len(res.Leases) > 0 {
		return fmt.Sprintf("%d leases", len(res.Leases))
	}
	for _, prefix := range []string{leasePrefix, lockPrefix} {
		keys, err := c.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			return err.Error()
		}
		if keys.Count > 0 {
			return fmt.Sprintf("%d keys below %s", keys.Count, prefix)
		}
	}
	return ""
}
