// Command server runs one member of the control plane as `reconcile server` does, with what a measurement needs besides: profiles.
//
//	server -data-dir DIR -addr HOST:PORT [-cpu-profile FILE] [-heap-profile FILE]
//
// It prints `ready` when a write is served and leaves the administrator's kubeconfig in DIR/admin.kubeconfig.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"syscall"

	"golang.org/x/sync/errgroup"

	"reconcile/pki"
	"reconcile/server"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir := flag.String("data-dir", "", "absolute folder for all that is kept")
	addr := flag.String("addr", "127.0.0.1:6443", "HOST:PORT to serve at")
	profile := flag.String("cpu-profile", "", "file for a profile of the processor's time")
	heap := flag.String("heap-profile", "", "file for a profile of the memory at the end")
	flag.Parse()
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	// The memory is looked at while all of it is still in use: the server ends afterwards.
	told, ctx := ctx, context.WithoutCancel(ctx)
	ctx, end := context.WithCancel(ctx)
	var look errgroup.Group
	look.Go(func() error {
		defer end()
		select {
		case <-ctx.Done():
			return nil
		case <-told.Done():
		}
		if *heap == "" {
			return nil
		}
		return writeHeap(*heap)
	})
	defer func() {
		end()
		err = errors.Join(err, look.Wait())
	}()
	if err := os.MkdirAll(*dir, 0o700); err != nil {
		return err
	}
	s, err := server.Open(ctx, server.Config{
		DataDir: *dir, Listen: *addr, Advertise: *addr, Name: "bench", Version: "bench",
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), PodCIDR: netip.MustParsePrefix("10.244.0.0/16"),
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	admin, err := s.Keys().Identity(pki.AdminSpec())
	if err != nil {
		return errors.Join(err, s.Close())
	}
	kc := pki.Kubeconfig{Cluster: "bench", User: "admin", Servers: []string{"https://" + *addr}, CA: s.Keys().PEM(), Identity: admin}
	if err := kc.Write(filepath.Join(*dir, "admin.kubeconfig")); err != nil {
		return errors.Join(err, s.Close())
	}
	return s.Run(ctx, func() { fmt.Println("ready") })
}

func writeHeap(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	runtime.GC()
	return pprof.WriteHeapProfile(f)
}
