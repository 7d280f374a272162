package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	goruntime "runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"reconcile/internal/diskspace"
	"reconcile/node/image"
	"reconcile/node/network"
	"reconcile/node/runtime"
	"reconcile/node/scrape"
	"reconcile/node/statefile"
	"reconcile/node/stats"
	"reconcile/object"
)

// Edges are the agent's hands: what it changes the machine with. OpenEdges makes the real ones.
type Edges struct {
	Runtime runtime.Runtime
	Images  *image.Store
	Network network.Network
	// Disk is the file system that holds the agent's folder.
	Disk diskspace.FileSystem
}

// OpenEdges opens the real runtime, image store and network of a machine, in the network namespace of the calling thread. It
// takes over running containers and blocks on disk. The caller closes Runtime after the agent's Run has returned.
func OpenEdges(c Config) (Edges, error) {
	c = c.withDefaults()
	if err := c.Validate(); err != nil {
		return Edges{}, err
	}
	kernel, err := network.OpenLinux(c.Bridge, c.Root)
	if err != nil {
		return Edges{}, err
	}
	nw, err := network.New(network.Config{Root: filepath.Join(c.Root, "network"), Bridge: c.Bridge, Cluster: c.ClusterCIDR, Masquerade: c.Masquerade, Self: c.InternalIP(), Log: c.Log}, kernel)
	if err != nil {
		return Edges{}, err
	}
	images, err := image.Open(image.Config{Root: filepath.Join(c.Root, "images"),
		InUse:   func() (map[string][]string, error) { return runtime.ImagesInUse(c.Root) },
		Mounted: func() (map[string]bool, error) { return runtime.LayersMounted(c.Root) }})
	if err != nil {
		return Edges{}, err
	}
	rt, err := runtime.Open(runtime.Config{Root: c.Root, RunDir: c.RunDir, CgroupPrefix: c.CgroupPrefix, Log: c.Log})
	if err != nil {
		return Edges{}, err
	}
	return Edges{Runtime: rt, Images: images, Network: nw, Disk: diskspace.At(c.Root)}, nil
}

// ResetMachine removes everything that an agent with this configuration made on the machine but the images: containers, network,
// cgroups, run folder. No agent may run. A network that belongs to another data directory is left alone.
func ResetMachine(ctx context.Context, c Config) error {
	e, err := OpenEdges(c)
	var owned *network.OwnedError
	if errors.As(err, &owned) {
		rt, err := runtime.Open(runtime.Config{Root: c.Root, RunDir: c.RunDir, CgroupPrefix: c.CgroupPrefix, Log: c.Log})
		if err != nil {
			return err
		}
		return rt.Reset(ctx)
	}
	if err != nil {
		return err
	}
	host, ok := e.Runtime.(*runtime.Host)
	if !ok {
		return errors.New("reset: the runtime is not this machine's")
	}
	return errors.Join(host.Reset(ctx), e.Network.Close(ctx))
}

// Agent runs the pods that are bound to one node. Make one with New; it implements stream.Backend.
type Agent struct {
	cfg     Config
	edges   Edges
	objects *objects
	events  *events
	slots   chan struct{}
	machine func() stats.Machine
	disk    *disk
	scraper *scrape.Scraper
	rates   rates

	mu      sync.Mutex
	workers map[string]*worker // by pod UID
	keys    map[object.Key]string
	ctx     context.Context // of Run, nil before it
	wg      sync.WaitGroup
	synced  bool
	nodes   map[object.Key]*corev1.Node
	renet   chan struct{}
}

// New checks the configuration. It does nothing else.
func New(c Config, e Edges) (*Agent, error) {
	c = c.withDefaults()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if e.Runtime == nil || e.Images == nil || e.Network == nil || e.Disk == nil {
		return nil, errors.New("node agent: all edges must be given")
	}
	if c.ParallelStarts == 0 {
		c.ParallelStarts = 4 * goruntime.NumCPU()
	}
	a := &Agent{cfg: c, edges: e, slots: make(chan struct{}, c.ParallelStarts), workers: map[string]*worker{}, keys: map[object.Key]string{},
		nodes: map[object.Key]*corev1.Node{}, renet: make(chan struct{}, 1), objects: &objects{src: c.Source, m: map[object.Key]*cached{}}}
	a.events, a.scraper = newEvents(a), scrape.New()
	a.disk = &disk{a: a, changed: make(chan struct{}, 1)}
	a.machine = sync.OnceValue(func() stats.Machine {
		m, err := stats.ReadMachine(c.Root)
		if err != nil {
			c.Log.Warn("cannot read the machine", "err", err)
		}
		return m
	})
	return a, nil
}

// Run registers the node, takes over the containers that run already, and keeps them as the Source wants until ctx ends. It returns
// after its goroutines; containers run on. Servers may be away for any time.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.mu.Lock()
	a.ctx = ctx
	a.mu.Unlock()
	a.disk.look(time.Now()) // before the first pod comes
	if err := a.adopt(ctx); err != nil {
		return fmt.Errorf("node agent %s: %w", a.cfg.NodeName, err)
	}
	g, gctx := errgroup.WithContext(ctx)
	for name, part := range map[string]func(context.Context) error{
		"keep the node registered": a.keepRegistered,
		"renew the node's lease":   a.keepLease,
		"keep the network":         a.keepNetwork,
		"watch the containers":     a.dispatch,
		"watch the disk":           a.disk.run,
		"report events":            func(ctx context.Context) error { a.events.run(ctx); return ctx.Err() },
		"follow the nodes": func(ctx context.Context) error {
			return a.cfg.Source.Follow(ctx, object.Selection{Resource: "nodes"}, nodeReceiver{a})
		},
		"follow its pods": func(ctx context.Context) error {
			return a.cfg.Source.Follow(ctx, object.Selection{Resource: "pods", FieldSelector: "spec.nodeName=" + a.cfg.NodeName}, podReceiver{a})
		},
	} {
		g.Go(func() error {
			err := part(gctx)
			if gctx.Err() != nil {
				return nil //nolint:nilerr // the agent was told to end
			}
			// One part that ends by itself ends the agent: half an agent would look like a whole one.
			return fmt.Errorf("node agent %s: %s: %w", a.cfg.NodeName, name, cmp.Or(err, errEnded))
		})
	}
	err := g.Wait()
	cancel()
	a.wg.Wait()
	a.scraper.Close()
	return err
}

// errEnded is why the agent ends when one of its parts has returned nothing while it should run on.
var errEnded = errors.New("it has ended by itself")

// adopt begins a worker for every pod on disk, before any server is asked. What cannot be named any more is removed.
func (a *Agent) adopt(ctx context.Context) error {
	list, err := a.edges.Runtime.Sandboxes(ctx)
	if err != nil {
		return err
	}
	// The network stands from before: workers must be able to use it before a server answers.
	if err := a.restoreNetwork(ctx); err != nil {
		a.cfg.Log.Warn("cannot set up the network as it was", "err", err)
	}
	have := map[string]bool{}
	for _, sb := range list {
		have[sb.Config.PodUID] = true
		var pod corev1.Pod
		err := statefile.ReadJSON(filepath.Join(a.podDir(sb.Config.PodUID), checkpointFile), &pod)
		if err != nil || string(pod.UID) != sb.Config.PodUID {
			a.cfg.Log.Info("removing a pod whose start was cut off", "pod", sb.Config.Name, "uid", sb.Config.PodUID)
			if err := a.clear(ctx, sb.Config.PodUID, ""); err != nil {
				a.cfg.Log.Warn("cannot remove what is left of a pod", "uid", sb.Config.PodUID, "err", err)
			}
			continue
		}
		w := newWorker(a, &pod)
		if ip, ok := a.edges.Network.Attached()[sb.Config.PodUID]; ok && sb.Alive {
			w.have.Sandbox, w.have.Set, w.have.IP = &sb, true, ip.String()
		} else if sb.Alive && pod.Spec.HostNetwork {
			w.have.Sandbox, w.have.Set, w.have.IP = &sb, true, a.cfg.InternalIP().String()
		}
		a.begin(&pod, w)
	}
	for uid := range a.edges.Network.Attached() {
		if !have[uid] {
			if err := a.edges.Network.Detach(ctx, uid); err != nil {
				a.cfg.Log.Warn("cannot free a pod's address", "uid", uid, "err", err)
			}
		}
	}
	return nil
}

// begin enters a worker and runs it.
func (a *Agent) begin(pod *corev1.Pod, w *worker) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ctx.Err() != nil {
		return
	}
	a.workers[w.uid] = w
	a.keys[object.KeyOf(pod)] = w.uid
	ctx := a.ctx
	a.wg.Add(1)
	go func() {
		defer a.wg.Done()
		w.run(ctx)
	}()
}

// life is the context of Run.
func (a *Agent) life() context.Context {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ctx
}

// retire forgets a worker that has nothing left to do, unless something came in for it meanwhile: in one step, so that a pod that comes
// back finds either a worker that will look at it or none.
func (a *Agent) retire(w *worker) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w.wantedAgain() {
		return false
	}
	delete(a.workers, w.uid)
	key := object.KeyOf(w.pod)
	if a.keys[key] == w.uid {
		delete(a.keys, key)
	}
	return true
}

// dispatch tells workers of containers that ended.
func (a *Agent) dispatch(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-a.edges.Runtime.Events():
			if !ok {
				return errors.New("the runtime was closed")
			}
			a.mu.Lock()
			w := a.workers[e.PodUID]
			a.mu.Unlock()
			if w != nil {
				w.notify()
			}
		}
	}
}

// podReceiver takes the wanted pods.
type podReceiver struct{ a *Agent }

// Replace implements object.Receiver.
func (r podReceiver) Replace(list []object.Object) {
	want := map[string]bool{}
	for _, o := range list {
		want[string(o.GetUID())] = true
	}
	r.a.mu.Lock()
	var gone []*worker
	for uid, w := range r.a.workers {
		if !want[uid] {
			gone = append(gone, w)
		}
	}
	r.a.synced = true
	r.a.mu.Unlock()
	for _, w := range gone {
		w.set(nil, true)
	}
	// Those that are known come first: what has ended leaves its room to those that are not.
	for _, o := range list {
		if pod, ok := o.(*corev1.Pod); ok {
			r.a.tell(pod)
		}
	}
	for _, o := range list {
		r.Upsert(o)
	}
}

// Upsert implements object.Receiver.
func (r podReceiver) Upsert(o object.Object) {
	pod, ok := o.(*corev1.Pod)
	if !ok || pod.Spec.NodeName != r.a.cfg.NodeName {
		return
	}
	if r.a.tell(pod) {
		return
	}
	w := newWorker(r.a, pod)
	if no := r.a.refuse(r.a.life(), pod); no.reason != "" {
		w.have.Evicted, w.have.Reason, w.refused, w.retry = no.told(), no.reason, true, w.seen.Add(refusalRest)
		r.a.podLog(pod).Warn("pod refused", "reason", no.message)
		r.a.events.tell(pod, "", corev1.EventTypeWarning, no.reason, "%s", no.message)
	}
	r.a.begin(pod, w)
}

// tell gives a pod to its worker, and tells whether there is one.
func (a *Agent) tell(pod *corev1.Pod) bool {
	key, uid := object.KeyOf(pod), string(pod.UID)
	a.mu.Lock()
	defer a.mu.Unlock()
	if before := a.keys[key]; before != "" && before != uid {
		if old := a.workers[before]; old != nil { // another pod of the same name: the former is gone
			old.set(nil, true)
		}
	}
	w, known := a.workers[uid]
	if known {
		a.keys[key] = uid
		w.set(pod, false) // under the lock: the worker cannot retire between
	}
	return known
}

// Remove implements object.Receiver.
func (r podReceiver) Remove(key object.Key) {
	r.a.mu.Lock()
	w := r.a.workers[r.a.keys[key]]
	r.a.mu.Unlock()
	if w != nil {
		w.set(nil, true)
	}
}

// nodeReceiver takes the nodes: the own pod subnet, and the ways to others' pods.
type nodeReceiver struct{ a *Agent }

// Replace implements object.Receiver.
func (r nodeReceiver) Replace(list []object.Object) {
	r.a.mu.Lock()
	clear(r.a.nodes)
	for _, o := range list {
		if n, ok := o.(*corev1.Node); ok {
			r.a.nodes[object.KeyOf(n)] = n
		}
	}
	r.a.mu.Unlock()
	r.a.kickNetwork()
}

// Upsert implements object.Receiver.
func (r nodeReceiver) Upsert(o object.Object) {
	n, ok := o.(*corev1.Node)
	if !ok {
		return
	}
	r.a.mu.Lock()
	key := object.KeyOf(n)
	old := r.a.nodes[key]
	r.a.nodes[key] = n
	r.a.mu.Unlock()
	if old == nil || old.Spec.PodCIDR != n.Spec.PodCIDR || internalIP(old) != internalIP(n) {
		r.a.kickNetwork()
	}
}

// Remove implements object.Receiver.
func (r nodeReceiver) Remove(key object.Key) {
	r.a.mu.Lock()
	delete(r.a.nodes, key)
	r.a.mu.Unlock()
	r.a.kickNetwork()
}

func internalIP(n *corev1.Node) netip.Addr {
	return Config{Addresses: n.Status.Addresses}.InternalIP()
}

func (a *Agent) kickNetwork() {
	select {
	case a.renet <- struct{}{}:
	default:
	}
}
