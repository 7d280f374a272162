package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Config of the real runtime. Two of them on one host must differ in all three of Root, RunDir and CgroupPrefix.
type Config struct {
	// Root keeps the state of pods and containers: pods/UID, containers/ID. Absolute.
	Root string
	// RunDir keeps the helper and the pinned namespaces; short and private. Absolute.
	RunDir string
	// CgroupPrefix is the branch of the cgroup tree, absolute ("/reconcile-n1").
	CgroupPrefix string
	// LogMaxBytes and LogMaxFiles rotate logs; 0 is 10 MiB and 5.
	LogMaxBytes int64
	LogMaxFiles int
	Log         *slog.Logger
}

// Validate lists all faults.
func (c Config) Validate() error {
	var errs []error
	for name, p := range map[string]string{"Root": c.Root, "RunDir": c.RunDir, "CgroupPrefix": c.CgroupPrefix} {
		if !filepath.IsAbs(p) || filepath.Clean(p) == "/" {
			errs = append(errs, fmt.Errorf("runtime config: %s %q: want an absolute path below /", name, p))
		}
	}
	if c.Log == nil {
		errs = append(errs, errors.New("runtime config: Log must be set"))
	}
	return errors.Join(errs...)
}

// Host is the real runtime of this machine. Make one with Open, and only one for a Root.
type Host struct {
	cfg          Config
	helper, shim string
	cgroups      hierarchies
	shimCgroups  []string
	bounding     []string
	locks        keyLocks
	events       chan Event

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu         sync.Mutex
	containers map[string]*entry
}

// entry is what is known of one container. Its fields are guarded by Host.mu; ended is closed when the container is over and
// everything of it but its folder is gone.
type entry struct {
	c     Container
	shim  shimRef
	ended chan struct{}
	done  bool
}

// Open takes over the containers below cfg.Root, running or ended while nobody looked, and watches them. It writes the helper to
// RunDir. The error is ErrNoHelper in a binary built without it.
func Open(cfg Config) (*Host, error) {
	if cfg.LogMaxBytes == 0 {
		cfg.LogMaxBytes = 10 << 20
	}
	if cfg.LogMaxFiles == 0 {
		cfg.LogMaxFiles = 5
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	h := &Host{cfg: cfg, containers: map[string]*entry{}, events: make(chan Event, 4096), bounding: boundingCaps()}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	for _, d := range []string{filepath.Join(cfg.Root, "pods"), filepath.Join(cfg.Root, "containers"), filepath.Join(cfg.RunDir, "ns")} {
		if err := os.MkdirAll(d, 0o711); err != nil {
			return nil, fmt.Errorf("open runtime: %w", err)
		}
	}
	var err error
	if h.helper, h.shim, err = programs(cfg.RunDir); err != nil {
		return nil, fmt.Errorf("open runtime: %w", err)
	}
	if h.cgroups, err = readHierarchies(); err != nil {
		return nil, fmt.Errorf("open runtime: %w", err)
	}
	if h.shimCgroups, err = h.cgroups.shimCgroups(cfg.CgroupPrefix); err != nil {
		return nil, fmt.Errorf("open runtime: %w", err)
	}
	// Best-effort pods share what nobody asked for.
	if err := h.cgroups.podCgroup(filepath.Join(cfg.CgroupPrefix, "kubepods", "besteffort"), Resources{CPUShares: 2}); err != nil {
		return nil, fmt.Errorf("open runtime: %w", err)
	}
	if err := h.adopt(); err != nil {
		return nil, fmt.Errorf("open runtime: %w", err)
	}
	h.sweepPins()
	return h, nil
}

// sweepPins lets go of namespaces whose pod's folder is gone: an agent killed between two steps leaves such.
func (h *Host) sweepPins() {
	entries, err := os.ReadDir(filepath.Join(h.cfg.RunDir, "ns"))
	if err != nil {
		return
	}
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(h.cfg.Root, "pods", e.Name())); errors.Is(err, os.ErrNotExist) {
			if err := h.unpin(e.Name()); err != nil {
				h.cfg.Log.Warn("cannot remove the namespaces of a pod that is gone", "pod", e.Name(), "err", err)
			}
		}
	}
}

// Close implements Runtime.
func (h *Host) Close() error {
	h.cancel()
	h.wg.Wait()
	close(h.events)
	return nil
}

// Reset removes every pod and container, the cgroups and the run folder: `reconcile reset` and tests. The runtime is closed.
func (h *Host) Reset(ctx context.Context) error {
	list, err := h.Sandboxes(ctx)
	for _, s := range list {
		err = errors.Join(err, h.RemoveSandbox(ctx, s.Config.PodUID))
	}
	all, lerr := h.List(ctx)
	err = errors.Join(err, lerr)
	for _, c := range all {
		err = errors.Join(err, h.Remove(ctx, c.Config.ID))
	}
	err = errors.Join(err, h.Close(), h.cgroups.removeCgroup(ctx, h.cfg.CgroupPrefix))
	return errors.Join(err, RemoveTree(h.cfg.RunDir), RemoveTree(filepath.Join(h.cfg.Root, "pods")), RemoveTree(filepath.Join(h.cfg.Root, "containers")))
}

var _ Runtime = (*Host)(nil)

// Events implements Runtime.
func (h *Host) Events() <-chan Event { return h.events }

// List implements Runtime.
func (h *Host) List(context.Context) ([]Container, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]Container, 0, len(h.containers))
	for _, e := range h.containers {
		out = append(out, e.c)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Config.ID < out[j].Config.ID })
	return out, nil
}

func (h *Host) containersOf(uid string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for id, e := range h.containers {
		if e.c.Config.PodUID == uid {
			out = append(out, id)
		}
	}
	sort.Strings(out)
	return out
}

func (h *Host) get(id string) (*entry, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e, ok := h.containers[id]
	if !ok {
		return nil, fmt.Errorf("container %s: %w", id, ErrNotFound)
	}
	return e, nil
}

// snapshot returns the container as it stands and the shim that runs it.
func (h *Host) snapshot(e *entry) (Container, shimRef) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return e.c, e.shim
}

func (h *Host) dir(id string) string { return filepath.Join(h.cfg.Root, "containers", id) }

func (h *Host) containerCgroup(podCgroup, id string) string { return filepath.Join(podCgroup, id) }

// Signal implements Runtime.
func (h *Host) Signal(_ context.Context, id string, sig os.Signal) error {
	e, err := h.get(id)
	if err != nil {
		return err
	}
	c, ref := h.snapshot(e)
	s, ok := sig.(unix.Signal)
	if !ok {
		return fmt.Errorf("signal container %s: %v is not a signal of this system", id, sig)
	}
	if c.State == Exited {
		return nil
	}
	if err := signalProcess(c.PID, ref.pidStart, s); err != nil && !errors.Is(err, errGone) {
		return fmt.Errorf("send signal %d to container %s: %w", s, id, err)
	}
	return nil
}

// Remove implements Runtime.
func (h *Host) Remove(ctx context.Context, id string) error {
	e, err := h.get(id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for {
		if err := h.Signal(ctx, id, unix.SIGKILL); err != nil {
			return err
		}
		select {
		case <-e.ended:
		case <-ctx.Done():
			return fmt.Errorf("remove container %s: it does not end: %w", id, ctx.Err())
		case <-time.After(time.Second):
			continue
		}
		break
	}
	unlock := h.locks.lock(id)
	defer unlock()
	if err := RemoveTree(h.dir(id)); err != nil {
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	h.mu.Lock()
	delete(h.containers, id)
	h.mu.Unlock()
	return nil
}

// Stats implements Runtime.
func (h *Host) Stats(_ context.Context, id string) (Stats, error) {
	e, err := h.get(id)
	if err != nil {
		return Stats{}, err
	}
	c, ref := h.snapshot(e)
	if c.State != Running {
		return Stats{}, fmt.Errorf("stats of container %s: %w", id, ErrNotRunning)
	}
	return h.cgroups.stats(ref.cgroup, time.Now()), nil
}

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,126}[a-z0-9])?$`)

// checkName refuses what would lead out of our folders.
func checkName(what, s string) error {
	if !validName.MatchString(s) || strings.Contains(s, "..") {
		return fmt.Errorf("%s %q: want lower-case letters, digits, '-' and '.'", what, s)
	}
	return nil
}

// boundingCaps are the capabilities this process may give to others.
func boundingCaps() []string {
	var out []string
	for i, n := range allCaps {
		if ok, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(i), 0, 0, 0); err == nil && ok == 1 {
			out = append(out, n)
		}
	}
	return out
}

// keyLocks is a lock a key.
type keyLocks struct {
	mu sync.Mutex
	m  map[string]*keyLock
}

type keyLock struct {
	sync.Mutex
	users int
}

func (k *keyLocks) lock(key string) (unlock func()) {
	k.mu.Lock()
	if k.m == nil {
		k.m = map[string]*keyLock{}
	}
	l := k.m[key]
	if l == nil {
		l = &keyLock{}
		k.m[key] = l
	}
	l.users++
	k.mu.Unlock()
	l.Lock()
	return func() {
		l.Unlock()
		k.mu.Lock()
		if l.users--; l.users == 0 {
			delete(k.m, key)
		}
		k.mu.Unlock()
	}
}
