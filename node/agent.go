package node

import (
	"context"
	"errors"
	"fmt"

	"reconcile/node/image"
	"reconcile/node/network"
	"reconcile/node/runtime"
)

// Edges are the agent's hands: what it changes the machine with.
type Edges struct {
	Runtime runtime.Runtime
	Images  *image.Store
	Network network.Network
}

// Agent runs the pods that are bound to one node. Make one with New; it implements stream.Backend.
type Agent struct {
	cfg   Config
	edges Edges
}

// New checks the configuration. It does nothing else.
func New(c Config, e Edges) (*Agent, error) {
	c = c.withDefaults()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if e.Runtime == nil || e.Images == nil || e.Network == nil {
		return nil, errors.New("node agent: all edges must be given")
	}
	return &Agent{cfg: c, edges: e}, nil
}

// Run registers the node, takes over the containers that run already, and keeps them as the Source wants until ctx ends. It returns
// after its goroutines; containers run on. Servers may be away for any time.
func (a *Agent) Run(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- a.keepLease(ctx) }()
	err := a.keepRegistered(ctx)
	<-done
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("node agent %s: %w", a.cfg.NodeName, err)
	}
	return nil
}
