package server

import (
	"bytes"
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

	"golang.org/x/sync/errgroup"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"

	"reconcile/api"
	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/object"
	"reconcile/raftstore"
	"reconcile/sequencer"
	"reconcile/server/usage"
)

// maxMetrics bounds an agent's answer; that of a node of 1,000 containers has about 100 KiB.
const maxMetrics = 16 << 20

// measuring is what this server knows of what pods use: the leader measures, the others ask it.
type measuring struct {
	*usage.Collector
	scraper *usage.Scraper
	store   *raftstore.Store
	peers   *peers
}

// known is what pods use and what they told of themselves.
type known struct {
	*usage.Table
	*usage.Metrics
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
	if err != nil {
		return nil, err
	}
	scraper, err := usage.NewScraper(usage.ScraperConfig{Log: s.cfg.Log, Ask: s.askPods(callers), Wanted: func() map[string][]object.PodQuery {
		if !s.store.Leader().Self {
			return nil
		}
		return controller.WantedMetrics(cluster.NewView(s.store.View()))
	}})
	return &measuring{Collector: c, scraper: scraper, store: s.store, peers: s.peers}, err
}

// Run measures until ctx ends.
func (m *measuring) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.Collector.Run(ctx) })
	g.Go(func() error { return m.scraper.Run(ctx) })
	return g.Wait()
}

// askPods is how the agent of a node is asked for what its pods tell.
func (s *Server) askPods(callers *agentCallers) func(context.Context, string, time.Duration, []object.PodQuery) ([]object.PodSamples, error) {
	return func(ctx context.Context, name string, within time.Duration, queries []object.PodQuery) ([]object.PodSamples, error) {
		o, ok := cluster.NewView(s.store.View()).Get(object.Key{Resource: "nodes", Name: name})
		if !ok {
			return nil, errors.New("it is not there")
		}
		body, err := json.Marshal(queries)
		if err != nil {
			return nil, err
		}
		b, err := callers.ask(ctx, o.(*corev1.Node), http.MethodPost, "/metrics/pods?timeout="+within.String(), body)
		if err != nil {
			return nil, err
		}
		var told []object.PodSamples
		if err := json.Unmarshal(b, &told); err != nil {
			return nil, fmt.Errorf("read what its pods tell: %w", err)
		}
		return told, nil
	}
}

// usages is what the controllers are lent.
func (m *measuring) usages() sequencer.Usages { return known{m.Table(), m.scraper.Metrics()} }

// answer is for clients of this server.
func (m *measuring) answer(ctx context.Context) (api.Usage, error) {
	var t usage.Table
	if self, err := m.fromLeader(ctx, pathUsage, &t); self || err != nil {
		return m.Table(), err
	}
	return &t, nil
}

// told is for clients of this server too.
func (m *measuring) told(ctx context.Context) (api.CustomMetrics, error) {
	out := described{Metrics: new(usage.Metrics), view: cluster.NewView(m.store.View())}
	if self, err := m.fromLeader(ctx, pathMetrics, out.Metrics); self || err != nil {
		out.Metrics = m.scraper.Metrics()
		return out, err
	}
	return out, nil
}

// fromLeader asks the leader for what it knows, unless this server leads.
func (m *measuring) fromLeader(ctx context.Context, path string, into any) (self bool, err error) {
	leader := m.store.Leader()
	if leader.Self {
		return true, nil
	}
	if leader.Address == "" {
		return false, errors.New("no server leads")
	}
	b, err := m.peers.post(ctx, leader.Address, path, nil)
	if err != nil {
		return false, err
	}
	return false, json.Unmarshal(b, into)
}

// described is what pods told, by the objects that stand for them. It implements api.CustomMetrics.
type described struct {
	*usage.Metrics
	view controller.View
}

// Of implements api.CustomMetrics.
func (d described) Of(namespace string, ref autoscalingv2.CrossVersionObjectReference, q object.MetricQuery) (object.MetricValue, bool) {
	return controller.MetricOf(d.view, d.Metrics, namespace, &ref, q)
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
	next := &agentCaller{addr: addr, Client: &http.Client{Transport: &http.Transport{DialTLSContext: dialer.DialContext, MaxIdleConns: 2, IdleConnTimeout: 90 * time.Second}}}
	c.clients[node.Name] = next
	return next, nil
}

// metrics asks an agent what its node and containers use.
func (c *agentCallers) metrics(ctx context.Context, node *corev1.Node) ([]byte, error) {
	return c.ask(ctx, node, http.MethodGet, "/stats/counters", nil)
}

// ask asks one agent.
func (c *agentCallers) ask(ctx context.Context, node *corev1.Node, method, path string, body []byte) ([]byte, error) {
	client, err := c.of(node)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+client.addr+path, bytes.NewReader(body))
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
