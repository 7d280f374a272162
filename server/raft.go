package server

import (
	"context"
	"net"
	"time"

	"github.com/hashicorp/raft"

	"reconcile/pki"
)

// streamLayer carries raft over the shared port: ALPN raft/1, both ends with certificates of servers.
type streamLayer struct {
	net.Listener
	advertise raft.ServerAddress
	peers     *peers
}

// Dial implements raft.StreamLayer.
func (s *streamLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return pki.Dial(ctx, string(address), pki.ProtoRaft, s.peers.identity, s.peers.pool)
}

// Addr implements net.Listener: raft takes it for the member's own address, so it is the one that others reach.
func (s *streamLayer) Addr() net.Addr { return advertised(s.advertise) }

type advertised raft.ServerAddress

// Network implements net.Addr.
func (advertised) Network() string { return "tcp" }

// String implements net.Addr.
func (a advertised) String() string { return string(a) }
