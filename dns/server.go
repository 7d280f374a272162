package dns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"reconcile/internal/loop"
	"reconcile/object"
)

// saveAfter is how long changes are collected before the state file is written.
const saveAfter = time.Second

// Run answers until ctx ends and returns after everything has been closed. It fails at once if an address cannot be listened on.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	s := newServer(cfg)
	if err := s.load(); err != nil {
		// Names come from the servers then; a broken cache is no reason not to answer.
		cfg.Log.Warn("the DNS state file is of no use", "file", cfg.StateFile, "error", err)
	}
	saver, err := loop.New(loop.Config{Name: "dns state", Settle: saveAfter, Log: cfg.Log,
		Do: func(context.Context, loop.Reason) (time.Duration, error) { return 0, s.save() }})
	if err != nil {
		return err
	}
	s.follower.changed = func() { s.resolver.serial.Add(1); saver.Trigger() }
	servers, err := s.listen(ctx)
	if err != nil {
		return err
	}
	parent := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make(chan error, len(servers)+3)
	run := func(f func() error) {
		wg.Go(func() {
			errs <- f()
			cancel()
		})
	}
	for _, srv := range servers {
		run(srv.ActivateAndServe)
	}
	for _, resource := range []string{resourceServices, resourceSlices} {
		run(func() error {
			return cfg.Source.Follow(ctx, object.Selection{Resource: resource}, receiver{s.follower, resource})
		})
	}
	run(func() error { return saver.Run(ctx) })
	cfg.Log.Info("DNS answers", "addresses", cfg.Listen, "domain", s.resolver.domain)
	<-ctx.Done()
	for _, srv := range servers {
		if srv.Shutdown() != nil {
			// It had not begun yet.
			closeServer(srv)
		}
	}
	wg.Wait()
	if parent.Err() != nil {
		return parent.Err()
	}
	// The first one is the reason; the others ended because of it.
	return <-errs
}

// server is what Run runs.
type server struct {
	cfg      Config
	table    *table
	resolver *resolver
	follower *follower
	handler  *handler
}

func newServer(cfg Config) *server {
	if cfg.Domain == "" {
		cfg.Domain = "cluster.local"
	}
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = "/etc/resolv.conf"
	}
	t := &table{}
	r := &resolver{table: t, domain: strings.ToLower(cfg.Domain) + "."}
	for _, a := range cfg.Listen {
		r.addrs = append(r.addrs, a.Addr())
	}
	return &server{cfg: cfg, table: t, resolver: r, follower: newFollower(t, func() {}),
		handler: &handler{resolver: r, upstream: newUpstreams(cfg.ResolvConf, cfg.Listen)}}
}

// listen binds every address for UDP and TCP. IP_FREEBIND allows an address that is not on the machine yet: the proxy's route
// makes it local, before or after.
func (s *server) listen(ctx context.Context) (servers []*dns.Server, err error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var opt error
		err := c.Control(func(fd uintptr) { opt = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) })
		return errors.Join(err, opt)
	}}
	defer func() {
		if err != nil {
			for _, srv := range servers {
				closeServer(srv)
			}
		}
	}()
	for _, a := range s.cfg.Listen {
		pc, err := lc.ListenPacket(ctx, "udp", a.String())
		if err != nil {
			return servers, fmt.Errorf("listen on %s for DNS over UDP: %w", a, err)
		}
		servers = append(servers, &dns.Server{PacketConn: pc, Handler: s.handler})
		l, err := lc.Listen(ctx, "tcp", a.String())
		if err != nil {
			return servers, fmt.Errorf("listen on %s for DNS over TCP: %w", a, err)
		}
		servers = append(servers, &dns.Server{Listener: l, Handler: s.handler})
	}
	return servers, nil
}

func closeServer(s *dns.Server) {
	if s.PacketConn != nil {
		_ = s.PacketConn.Close()
	}
	if s.Listener != nil {
		_ = s.Listener.Close()
	}
}

// saved is the state file: the names of every service, by "namespace/name".
type saved struct {
	Format   int                 `json:"format"`
	Services map[string]*service `json:"services"`
}

const savedFormat = 1

// load fills the table from the state file.
func (s *server) load() error {
	if s.cfg.StateFile == "" {
		return nil
	}
	b, err := os.ReadFile(s.cfg.StateFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var f saved
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	if f.Format != savedFormat {
		return fmt.Errorf("its format is %d, this program knows %d", f.Format, savedFormat)
	}
	for name, svc := range f.Services {
		ns, n, ok := strings.Cut(name, "/")
		if ok && svc != nil {
			s.table.set(key{ns, n}, svc)
		}
	}
	s.table.known.Store(true)
	return nil
}

// save writes the state file by a new file that takes the place of the old one, so that there is always a whole one.
func (s *server) save() error {
	if s.cfg.StateFile == "" || !s.table.known.Load() {
		return nil
	}
	f := saved{Format: savedFormat, Services: make(map[string]*service)}
	s.table.services.Range(func(k, v any) bool {
		f.Services[k.(key).namespace+"/"+k.(key).name] = v.(*service)
		return true
	})
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	next := filepath.Join(filepath.Dir(s.cfg.StateFile), "."+filepath.Base(s.cfg.StateFile)+".new")
	if err := os.WriteFile(next, b, 0o600); err != nil {
		return fmt.Errorf("write the DNS state: %w", err)
	}
	if err := os.Rename(next, s.cfg.StateFile); err != nil {
		return fmt.Errorf("write the DNS state: %w", err)
	}
	return nil
}
