package sequencer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/raftstore"
)

// stuckRig is a leader whose disk takes nothing until release is called.
func stuckRig(t *testing.T, change func(*Config)) (r *rig, release func()) {
	t.Helper()
	var stuck atomic.Bool
	free := make(chan struct{})
	storage := raftstore.MemoryStorage()
	storage.Intercept(func(bool) error {
		if stuck.Load() {
			<-free
		}
		return nil
	})
	r = newRig(t, storage, change)
	stuck.Store(true)
	return r, func() { close(free) }
}

// tooMany tells whether err is Kubernetes' answer to a client that should come again later.
func tooMany(err error) bool {
	seconds, later := apierrors.SuggestsClientDelay(err)
	return apierrors.IsTooManyRequests(err) && later && seconds > 0
}

// A leader that cannot write takes so many requests, and so many bytes; the next is told to come again. When the disk is back all that
// were taken are answered, and there is room again.
func TestQueueIsBoundedByCountAndBytes(t *testing.T) {
	for _, c := range []struct {
		name     string
		change   func(*Config)
		size     int
		min, max int // how many are taken
	}{
		{"count", func(c *Config) { c.Queue = 20 }, 1, 20, 20},
		{"bytes", func(c *Config) { c.QueueBytes = 1 << 20 }, 100 << 10, 9, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, release := stuckRig(t, c.change)
				defer r.stop()
				answers := make(chan error, 50)
				for i := range 50 {
					go func() {
						_, err := r.submit(write(Create, configMap(fmt.Sprintf("c%02d", i), strings.Repeat("x", c.size))))
						answers <- err
					}()
				}
				synctest.Wait()
				refused := len(answers)
				if taken := 50 - refused; taken < c.min || taken > c.max {
					t.Errorf("%d of 50 requests were taken, want %d to %d", taken, c.min, c.max)
				}
				for range refused {
					if err := <-answers; !tooMany(err) {
						t.Errorf("refused with %v, want 429 and when to come again", err)
					}
				}
				release()
				for range 50 - refused {
					if err := <-answers; err != nil {
						t.Errorf("a request that was taken: %v", err)
					}
				}
				r.must(write(Create, configMap("after", "1")))
			})
		})
	}
}

// Clients that give up leave their requests in the queue for a while: they count until they are dropped.
func TestAbandonedRequestsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, release := stuckRig(t, func(c *Config) { c.Queue = 20 })
		defer r.stop()
		for i := range 40 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			_, err := r.seq.Submit(ctx, Request{Ops: []Op{write(Create, configMap(fmt.Sprintf("c%02d", i), "1"))}})
			cancel()
			if i >= 20 && !tooMany(err) {
				t.Fatalf("request %d: %v, want 429", i, err)
			}
		}
		release()
		time.Sleep(time.Second)
		for i := range 40 {
			r.must(write(Create, configMap(fmt.Sprintf("later%02d", i), "1")))
		}
	})
}

// hanging is a Forwarder to a leader that does not answer.
type hanging struct{}

func (hanging) Forward(ctx context.Context, _ raftstore.Leader, _ []byte) ([]byte, error) {
	<-ctx.Done()
	return nil, raftstore.ErrUnknown
}

// A server without a leader holds requests for a second, not more of them than it has room for, and then says clearly that nothing
// was changed. A push, which nobody repeats unasked, is held longer.
func TestNoLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFollower(t, nil)
		defer r.stop()
		type told struct {
			err   error
			after time.Duration
		}
		began := time.Now()
		answers := make(chan told, 50)
		ask := func(req Request) {
			_, err := r.seq.Submit(t.Context(), req)
			answers <- told{err, time.Since(began)}
		}
		for i := range 30 {
			go ask(Request{Ops: []Op{write(Create, configMap(fmt.Sprintf("c%02d", i), "1"))}})
		}
		synctest.Wait()
		for range 10 {
			if a := <-answers; !tooMany(a.err) || a.after > 0 {
				t.Errorf("after %s: %v, want 429 at once", a.after, a.err)
			}
		}
		for range 20 {
			if a := <-answers; !apierrors.IsServiceUnavailable(a.err) || a.after != time.Second {
				t.Errorf("after %s: %v, want 503 after a second", a.after, a.err)
			}
		}
		began = time.Now()
		go ask(Request{Source: "cluster", Ops: []Op{write(Create, configMap("push", "1"))}})
		if a := <-answers; !apierrors.IsServiceUnavailable(a.err) || a.after != 10*time.Second {
			t.Errorf("a push after %s: %v, want 503 after ten seconds", a.after, a.err)
		}
	})
}

// newFollower is a member of a cluster whose other members are not there, with room for 20 requests.
func newFollower(t *testing.T, f Forwarder) *rig {
	t.Helper()
	_, transport := raft.NewInmemTransport("one")
	store, err := raftstore.Open(raftstore.Config{Storage: raftstore.MemoryStorage(), ServerID: "one", Bootstrap: true, Transport: transport,
		Servers: []raftstore.Server{{ID: "one", Address: "one", Voter: true}, {ID: "two", Address: "two", Voter: true}}})
	if err != nil {
		t.Fatal(err)
	}
	seq, err := New(Config{Store: store, Settler: Controllers{}, Forwarder: f, Queue: 20})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- seq.Run(ctx) }()
	return &rig{t: t, store: store, seq: seq, stop: func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		store.Close()
	}}
}

// What waits for a leader that does not answer is bounded too.
func TestForwardingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFollower(t, hanging{})
		defer r.stop()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		leave := make([]func(), 0, 20)
		for range 20 {
			out, err := r.seq.held.enter(1)
			if err != nil {
				t.Fatal(err)
			}
			leave = append(leave, out)
		}
		if _, err := r.seq.StageBlob(ctx, []byte("x")); !tooMany(err) {
			t.Errorf("a blob on a full server: %v, want 429", err)
		}
		for _, f := range leave {
			f()
		}
		if w := weight(&Request{Ops: []Op{write(Create, &corev1.ConfigMap{Data: map[string]string{"v": strings.Repeat("x", 1000)}})}}); w < 1000 || w > 2000 {
			t.Errorf("a ConfigMap of 1000 bytes weighs %d", w)
		}
	})
}

// late is a leader that takes a message and then says nothing.
type late struct{ sent bool }

func (l late) Forward(ctx context.Context, _ raftstore.Leader, _ []byte) ([]byte, error) {
	<-ctx.Done()
	if l.sent {
		return nil, fmt.Errorf("%w: %w", raftstore.ErrUnknown, ctx.Err())
	}
	return nil, ctx.Err()
}

// A leader that hangs while it goes on leading does not hold a follower's requests for ever, and what may have reached it is unknown.
func TestForwardingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, sent := range []bool{true, false} {
			r := newFollower(t, late{sent})
			l := raftstore.Leader{ID: "two", Address: "two"}
			kept := func(what string, began time.Time, err error) {
				t.Helper()
				if time.Since(began) > 2*time.Minute {
					t.Errorf("%s waited %s", what, time.Since(began))
				}
				if unknown := apierrors.IsTimeout(err); unknown != sent || !sent && !errors.Is(err, errAgain) {
					t.Errorf("%s, which was sent: %t, is told %v", what, sent, err)
				}
				if s, ok := apierrors.SuggestsClientDelay(err); ok && sent {
					t.Errorf("%s is to be repeated after %d s", what, s)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			began := time.Now()
			_, err := r.seq.submitThere(ctx, l, &Request{Ops: []Op{write(Create, configMap("a", "1"))}})
			kept("a request", began, err)
			began = time.Now()
			_, err = r.seq.stageThere(ctx, l, []byte("x"))
			kept("a blob", began, err)
			began = time.Now()
			j := newTxnJob(program{})
			r.seq.sendFrame(ctx, l, []*txnJob{j})
			kept("a transaction", began, (<-j.done).err)
			cancel()
			r.stop()
		}
	})
}

// The leader answers before its follower gives up, and tells what was not begun from what was.
func TestServingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, jam, release := jammed(t, func(c *Config) { c.Txns = oneWord{} })
		jam()
		frame := binary.AppendUvarint([]byte{txnFrame}, 1)
		frame = appendSized(frame, text("k"))
		codes := make(chan byte, 4)
		for range cap(codes) { // two of them are under way, the others wait
			go func() {
				began := time.Now()
				b, err := r.seq.Serve(t.Context(), frame)
				if err != nil || time.Since(began) >= frameTimeout {
					t.Errorf("a frame was answered after %s: %v", time.Since(began), err)
				}
				_, b, err = cutCount(b)
				if err != nil {
					t.Error(err)
				}
				codes <- b[0]
			}()
			time.Sleep(time.Millisecond)
		}
		count := map[byte]int{}
		for range cap(codes) {
			count[<-codes]++
		}
		if count[codeUnknown] == 0 || count[codeAgain] == 0 || count[codeUnknown]+count[codeAgain] != cap(codes) {
			t.Errorf("of four transactions on a disk that stands still %v were answered", count)
		}
		release()
		r.stop()
	})
}

// oneWord reads transactions that put one key.
type oneWord struct{ noCodec }

func (oneWord) Txn(body []byte) (Txn, error) { return program{steps: []step{{key: string(body)}}}, nil }
