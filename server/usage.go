package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/api"
	"reconcile/cluster"
	"reconcile/raftstore"
	"reconcile/sequencer"
	"reconcile/server/usage"
)

// maxMetrics bounds an agent's answer; that of a node of 1,000 containers has about 400 KiB.
const maxMetrics = 16 << 20

// measuring is what this server knows of what pods use: the leader measures, the others ask it.
type measuring struct {
	*usage.Collector
	store *raftstore.Store
	peers *peers
}

// newMeasuring makes it; its Run must be called.
func (s *Server) newMeasuring() (*measuring, error) {
	callers := &agentCallers{agents: agents{identity: s.identity, pool: s.pool}, clients: map[string]*agentCaller{}}
	c, err := usage.New(usage.Config{Log: s.cfg.Log, Ask: callers.metrics, Nodes: func() []*corev1.Node {
		if !s.store.Leader().Self {
			return callers.only(nil)
		}
		var nodes []*corev1.Node
		for o := range cluster.NewView(s.store.View()).List("nodes", "") {
			if n, ok := o.(*corev1.Node); ok && n.Status.DaemonEndpoints.KubeletEndpoint.Port != 0 {
				nodes = append(nodes, n)
			}
		}
		return callers.only(nodes)
	}})
	return &measuring{Collector: c, store: s.store, peers: s.peers}, err
}

// usages is what the controllers are lent.
func (m *measuring) usages() sequencer.Usages { return m.Table() }

// answer is for clients of this server.
func (m *measuring) answer(ctx context.Context) (api.Usage, error) {
	leader := m.store.Leader()
	if leader.Self {
		return m.Table(), nil
	}
	if leader.Address == "" {
		return nil, errors.New("no server leads")
	}
	b, err := m.peers.post(ctx, leader.Address, pathUsage, nil)
	if err != nil {
		return nil, err
	}
	var t usage.Table
	return &t, json.Unmarshal(b, &t)
}

// agentCallers asks agents for their metrics, each over a connection that is kept.
type agentCallers struct {
	agents  agents
	mu      sync.Mutex
	clients map[string]*agentCaller // by node
}

// agentCaller is the client of one agent.
type agentCaller struct {
	*http.Client
	addr string
}

// only closes the connections to nodes that are gone. It returns nodes.
func (c *agentCallers) only(nodes []*corev1.Node) []*corev1.Node {
	names := map[string]bool{}
	for _, n := range nodes {
		names[n.Name] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, client := range c.clients {
		if !names[name] {
			client.CloseIdleConnections()
			delete(c.clients, name)
		}
	}
	return nodes
}

// of is the client of a node's agent, a new one when the agent has moved.
func (c *agentCallers) of(node *corev1.Node) (*agentCaller, error) {
	addr, conf, err := c.agents.Endpoint(node)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.clients[node.Name]
	if old != nil && old.addr == addr {
		return old, nil
	}
	if old != nil {
		old.CloseIdleConnections()
	}
	dialer := &tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: conf}
	next := &agentCaller{addr: addr, Client: &http.Client{Transport: &http.Transport{DialTLSContext: dialer.DialContext, MaxIdleConns: 1, IdleConnTimeout: 90 * time.Second}}}
	c.clients[node.Name] = next
	return next, nil
}

// metrics asks one agent.
func (c *agentCallers) metrics(ctx context.Context, node *corev1.Node) ([]byte, error) {
	client, err := c.of(node)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+client.addr+"/metrics/resource", nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxMetrics))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("the agent of %s answers %s", node.Name, res.Status)
	}
	return b, err
}
