package node_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/internal/diskspace"
	"reconcile/node"
	"reconcile/node/image"
	"reconcile/node/network"
	"reconcile/node/nodetest"
	"reconcile/node/runtime/runtimefake"
	"reconcile/object"
)

// noNodes is a server that lets the agent read everything but nodes.
type noNodes struct{ *nodetest.Server }

func (s noNodes) Follow(ctx context.Context, sel object.Selection, r object.Receiver) error {
	if sel.Resource == "nodes" {
		return errors.New("forbidden")
	}
	return s.Server.Follow(ctx, sel, r)
}

// TestAgentEndsWithItsParts lets one part of the agent fail in a way that trying again cannot cure: the agent must end and say
// which, because half an agent looks like a whole one from outside.
func TestAgentEndsWithItsParts(t *testing.T) {
	root, server := t.TempDir(), noNodes{nodetest.NewServer()}
	disk := runtimefake.NewDisk(root)
	images, err := image.Open(image.Config{Root: filepath.Join(root, "images")})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	nw, err := network.New(network.Config{Root: filepath.Join(root, "network"), Bridge: "fake0", Cluster: netip.MustParsePrefix("10.244.0.0/16"),
		Self: netip.MustParseAddr("192.0.2.1"), Log: log}, network.NewFakeKernel())
	if err != nil {
		t.Fatal(err)
	}
	rt := runtimefake.Open(disk)
	defer rt.Close()
	a, err := node.New(node.Config{
		NodeName: "n1", Root: root, RunDir: t.TempDir(), CgroupPrefix: "/fake", Bridge: "fake0", ClusterCIDR: netip.MustParsePrefix("10.244.0.0/16"),
		Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}}, Source: server, Sink: server, Log: log,
	}, node.Edges{Runtime: rt, Images: images, Network: nw, Disk: diskspace.At(root)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := a.Run(ctx); err == nil || !strings.Contains(err.Error(), "follow the nodes: forbidden") {
		t.Errorf("the agent ended with %v (%v)", err, ctx.Err())
	}
}
