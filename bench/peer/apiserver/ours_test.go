package apiserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"reconcile/admission"
	"reconcile/api"
	"reconcile/api/apitest"
	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/raftstore"
	"reconcile/sequencer"
)

// serviceRange is that of both sides.
const serviceRange = "10.96.0.0/16"

// writeKey makes a key for tokens.
func writeKey(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

// nothing is a cluster without controllers.
type nothing struct{}

// Triggers implements sequencer.Settler.
func (nothing) Triggers(controller.View, []controller.Change) []controller.Trigger { return nil }

// Resync implements sequencer.Settler.
func (nothing) Resync(controller.View) []controller.Trigger { return nil }

// Settle implements sequencer.Settler.
func (nothing) Settle(controller.Overlay, []controller.Trigger, time.Time, int, controller.Admit) controller.Outcome {
	return controller.Outcome{}
}

// store is raft, store and sequencer as package server wires them.
type store struct {
	*sequencer.Sequencer
	raft *raftstore.Store
}

// View implements api.Store.
func (s store) View() api.View { return cluster.NewView(s.raft.View()) }

// Wait implements api.Store.
func (s store) Wait(ctx context.Context, rev uint64) error { return s.raft.WaitRev(ctx, rev) }

// ViewAt implements api.Store.
func (s store) ViewAt(rev uint64) (api.PastView, error) {
	v, err := s.raft.View().At(rev)
	if err != nil {
		return nil, compacted(err)
	}
	return past{cluster.NewView(v)}, nil
}

type past struct{ *cluster.View }

// Err implements api.PastView.
func (p past) Err() error { return compacted(p.Raw().Err()) }

// Watch implements api.Store.
func (s store) Watch(resource, namespace string, after uint64) (api.Watch, error) {
	w, err := cluster.WatchObjects(s.raft, resource, namespace, after)
	if err != nil {
		return nil, compacted(err)
	}
	return watch{w}, nil
}

type watch struct{ *cluster.Watch }

// Next implements api.Watch.
func (w watch) Next(ctx context.Context) ([]cluster.Event, uint64, error) {
	e, rev, err := w.Watch.Next(ctx)
	return e, rev, compacted(err)
}

func compacted(err error) error {
	if errors.Is(err, raftstore.ErrCompacted) {
		return fmt.Errorf("%w: %w", api.ErrCompacted, err)
	}
	return err
}

// startOurs serves a store of one member in memory until the test ends.
func startOurs(t testing.TB) (side, *apitest.Server) {
	t.Helper()
	_, transport := raft.NewInmemTransport("one")
	rs, err := raftstore.Open(raftstore.Config{
		Storage: raftstore.MemoryStorage(), ServerID: "one", Bootstrap: true, Transport: transport, Index: cluster.Index, Heartbeat: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	seq, err := sequencer.New(sequencer.Config{Store: rs, Settler: nothing{}, Ranges: admission.Ranges{Services: netip.MustParsePrefix(serviceRange)}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := rs.Run(ctx); err != nil {
			t.Errorf("store: %v", err)
		}
	})
	wg.Go(func() {
		if err := seq.Run(ctx); err != nil {
			t.Errorf("sequencer: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		rs.Close()
	})
	st := store{seq, rs}
	s := apitest.Start(t, apitest.New(), func(c *api.Config) { c.Store, c.Writer = st, st })
	ours := side{"ours", s.URL, newClient(t, s.Authority)}
	ours.await(t)
	return ours, s
}
