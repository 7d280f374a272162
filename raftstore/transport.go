package raftstore

import (
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
)

// transportTimeout bounds one message between members; raft scales it for snapshots by their size.
const transportTimeout = 10 * time.Second

// NewTransport makes raft's transport over a stream layer: the listener and dialler of a port that may carry other protocols too.
// The Store that is given it closes it.
func NewTransport(stream raft.StreamLayer, log *slog.Logger) raft.Transport {
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:  stream,
		MaxPool: 3,
		Timeout: transportTimeout,
		Logger:  raftLogger(log),
	})
}
