package diskspace_test

import (
	"testing"

	"reconcile/internal/diskspace"
)

func TestLow(t *testing.T) {
	const gib = 1 << 30
	for name, tc := range map[string]struct {
		space diskspace.Space
		used  int
		want  string
	}{
		"roomy":             {diskspace.Space{Total: 40 * gib, Free: 20 * gib, Inodes: 100, InodesFree: 50}, 50, ""},
		"just enough":       {diskspace.Space{Total: 40 * gib, Free: 4 * gib, Inodes: 100, InodesFree: 5}, 90, ""},
		"one byte too full": {diskspace.Space{Total: 40 * gib, Free: 4*gib - 1}, 90, "4.0 GiB of 40.0 GiB are free, under 10 %"},
		"full":              {diskspace.Space{Total: 40 * gib}, 100, "0 MiB of 40.0 GiB are free, under 10 %"},
		"no inodes":         {diskspace.Space{Total: 40 * gib, Free: 20 * gib, Inodes: 1000, InodesFree: 49}, 50, "49 of 1000 inodes are free, under 5 %"},
		"no inodes counted": {diskspace.Space{Total: 40 * gib, Free: 20 * gib}, 50, ""},
		"no size":           {diskspace.Space{}, 0, ""},
	} {
		if got := diskspace.Kubelet().Low(tc.space); got != tc.want || tc.space.UsedPercent() != tc.used {
			t.Errorf("%s: %q and %d %% used, want %q and %d", name, got, tc.space.UsedPercent(), tc.want, tc.used)
		}
	}
}

func TestAt(t *testing.T) {
	s, err := diskspace.At(t.TempDir()).Space()
	if err != nil || s.Total == 0 || s.Free > s.Total {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := diskspace.At(t.TempDir() + "/none").Space(); err == nil {
		t.Error("a folder that is not there has space")
	}
}
