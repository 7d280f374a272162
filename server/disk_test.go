package server

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reconcile/internal/diskspace"
)

// fakeSpace is a disk of 100 GiB with so many free; less than none cannot be read.
type fakeSpace struct{ free int }

// Space implements diskspace.FileSystem.
func (s *fakeSpace) Space() (diskspace.Space, error) {
	if s.free < 0 {
		return diskspace.Space{}, errors.New("no such device")
	}
	return diskspace.Space{Total: 100 << 30, Free: uint64(s.free) << 30}, nil
}

// TestDiskIsWatched: a disk that fills up is told once in the log, and to the lease as long as it is so.
func TestDiskIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		fs := &fakeSpace{free: 50}
		d := &disk{fs: fs, dir: "/data", log: slog.New(slog.NewTextHandler(&log, nil))}
		done := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { done <- d.run(ctx) }()
		for _, step := range []struct {
			free  int
			want  string
			warns int
		}{{50, "", 0}, {9, "9.0 GiB of 100.0 GiB are free, under 10 %", 1}, {5, "5.0 GiB of 100.0 GiB are free, under 10 %", 1}, {-1, "5.0 GiB", 2}, {20, "", 2}, {3, "3.0 GiB", 3}} {
			fs.free = step.free
			time.Sleep(diskEvery)
			synctest.Wait()
			if got := d.message(); !strings.HasPrefix(got, step.want) || (step.want == "") != (got == "") {
				t.Errorf("%d GiB free: %q, want %q", step.free, got, step.want)
			}
			if n := strings.Count(log.String(), "level=WARN"); n != step.warns {
				t.Errorf("%d GiB free: %d warnings, want %d:\n%s", step.free, n, step.warns, log.String())
			}
		}
		if !strings.Contains(log.String(), "has space again") {
			t.Errorf("the log says\n%s", log.String())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
