package testcluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/cluster"
	"reconcile/object"
	"reconcile/sequencer"
)

// Any lets Submit choose a running server.
const Any = -1

// Submit sends a request by server i, or by the first that runs, and notes the answer.
func (c *Cluster) Submit(ctx context.Context, i int, req sequencer.Request) (sequencer.Result, error) {
	for j := 0; i == Any && j < len(c.servers); j++ {
		if c.servers[j].Running() {
			i = j
		}
	}
	if i == Any {
		return sequencer.Result{}, apierrors.NewServiceUnavailable("no server runs")
	}
	res, err := c.servers[i].Seq().Submit(ctx, req)
	what := "wrote"
	for _, op := range req.Ops {
		what += fmt.Sprintf(" %s %s", op.Verb, op.Key)
	}
	if err != nil {
		what = "failed: " + what + ": " + err.Error()
	}
	c.History.note(fmt.Sprintf("client by s%d", i), what, res.Rev)
	return res, err
}

// Must submits by any server, again while there is no leader, as clients do, and fails the test on any other error.
func (c *Cluster) Must(req sequencer.Request) sequencer.Result {
	c.t.Helper()
	for deadline := time.Now().Add(patience); ; pause(c.ctx) {
		res, err := c.Submit(c.ctx, Any, req)
		if err == nil {
			return res
		}
		if !apierrors.IsServiceUnavailable(err) || time.Now().After(deadline) {
			c.t.Fatal(err)
		}
	}
}

// Create is the request that creates objects.
func Create(objects ...object.Object) sequencer.Request {
	req := sequencer.Request{User: "test"}
	for _, o := range objects {
		req.Ops = append(req.Ops, sequencer.Op{Verb: sequencer.Create, Key: object.KeyOf(o), Object: o})
	}
	return req
}

// Namespace is one by that name.
func Namespace(name string) object.Object {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// Load writes ConfigMaps of ever new names from several clients, each by a server of its own choice, until Stop.
type Load struct {
	c    *Cluster
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu sync.Mutex
	// acked are the names whose creation was acknowledged, with the revision; unknown those whose outcome nobody knows.
	acked   map[string]uint64
	unknown map[string]bool
	refused int
}

// StartLoad begins with n clients in namespace ns, which must exist.
func (c *Cluster) StartLoad(ns string, n int) *Load {
	l := &Load{c: c, acked: map[string]uint64{}, unknown: map[string]bool{}}
	var ctx context.Context
	ctx, l.stop = context.WithCancel(c.ctx)
	for i := range n {
		l.wg.Go(func() {
			for k := 0; ctx.Err() == nil; k++ {
				l.write(ctx, i, ns, fmt.Sprintf("c%d-%06d", i, k))
			}
		})
	}
	return l
}

func (l *Load) write(ctx context.Context, client int, ns, name string) {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Data: map[string]string{"client": fmt.Sprint(client)}}
	res, err := l.c.Submit(ctx, client%len(l.c.servers), Create(cm))
	l.count(name, res.Rev, err)
	pause(ctx) // so that the cluster's time passes
}

func (l *Load) count(name string, rev uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.acked[name] = rev
	case apierrors.IsTimeout(err):
		l.unknown[name] = true
	default:
		l.refused++
	}
}

// Stop ends the clients and returns how many writes were acknowledged, unknown and refused.
func (l *Load) Stop() (acked, unknown, refused int) {
	l.stop()
	l.wg.Wait()
	return len(l.acked), len(l.unknown), l.refused
}

// Check compares with a state: what was acknowledged is there, and nothing is that was neither acknowledged nor unknown.
func (l *Load) Check(v *cluster.View, ns string) error {
	seen := map[string]bool{}
	for o := range v.List("configmaps", ns) {
		name := o.GetName()
		seen[name] = true
		if _, ok := l.acked[name]; !ok && !l.unknown[name] {
			return fmt.Errorf("%s is there, although its creation was refused", name)
		}
	}
	for name, rev := range l.acked {
		if !seen[name] {
			return fmt.Errorf("the acknowledged %s (revision %d) is lost", name, rev)
		}
	}
	return nil
}
