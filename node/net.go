package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"reconcile/node/network"
	"reconcile/node/statefile"
	"reconcile/object"
)

// subnetFile keeps the node's pod subnet and peers, for a start without a server.
const subnetFile = "subnet.json"

type subnetState struct {
	Subnet netip.Prefix   `json:"subnet"`
	Peers  []network.Peer `json:"peers"`
}

// keepNetwork sets the network up whenever a node's subnet or address changed, and looks again each minute, since others change
// routes too.
func (a *Agent) keepNetwork(ctx context.Context) error {
	for {
		wait := time.Minute
		if err := a.setNetwork(ctx); err != nil {
			a.cfg.Log.Warn("cannot set up the node's network, trying again", "err", err)
			wait = time.Second
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-a.renet:
			t.Stop()
		case <-t.C:
		}
	}
}

func (a *Agent) setNetwork(ctx context.Context) error {
	st, err := a.subnets()
	if err != nil || !st.Subnet.IsValid() {
		return err
	}
	if err := a.edges.Network.SetNode(ctx, st.Subnet, st.Peers); err != nil {
		return err
	}
	if err := statefile.WriteJSON(filepath.Join(a.cfg.Root, subnetFile), st); err != nil {
		return fmt.Errorf("keep the node's subnet: %w", err)
	}
	// Pods may have waited for it.
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		w.post(func(w *worker) {
			if x, ok := w.have.Waiting[""]; ok && !w.have.Set {
				x.Until = time.Time{}
				w.have.Waiting[""] = x
			}
		})
	}
	return nil
}

// subnets are the node's own and its peers', from the Node objects.
func (a *Agent) subnets() (subnetState, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var st subnetState
	own := object.Key{Resource: "nodes", Name: a.cfg.NodeName}
	for key, n := range a.nodes {
		if n.Spec.PodCIDR == "" {
			continue
		}
		p, err := netip.ParsePrefix(n.Spec.PodCIDR)
		if err != nil {
			return st, fmt.Errorf("podCIDR %q of %s: %w", n.Spec.PodCIDR, key, err)
		}
		if key == own {
			st.Subnet = p
		} else {
			st.Peers = append(st.Peers, network.Peer{Node: n.Name, Subnet: p, Via: internalIP(n)})
		}
	}
	slices.SortFunc(st.Peers, func(x, y network.Peer) int { return strings.Compare(x.Node, y.Node) })
	return st, nil
}

// restoreNetwork sets the network up as it was when the agent last ran.
func (a *Agent) restoreNetwork(ctx context.Context) error {
	var st subnetState
	err := statefile.ReadJSON(filepath.Join(a.cfg.Root, subnetFile), &st)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return a.edges.Network.SetNode(ctx, st.Subnet, st.Peers)
}
