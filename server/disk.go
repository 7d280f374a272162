package server

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"reconcile/internal/diskspace"
)

// diskEvery is how often the space is looked at.
const diskEvery = 10 * time.Second

// disk watches the space of the data directory: raft stops a member whose log cannot be written, and nobody should learn of a full disk from
// that. What it finds is logged and told with the server's lease.
type disk struct {
	fs  diskspace.FileSystem
	dir string
	log *slog.Logger

	mu  sync.Mutex
	low string
}

// run looks at the disk until ctx ends.
func (d *disk) run(ctx context.Context) error {
	tick := time.NewTicker(diskEvery)
	defer tick.Stop()
	for {
		d.look()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look reads the space once, and says when there is too little, or enough again.
func (d *disk) look() {
	space, err := d.fs.Space()
	if err != nil {
		d.log.Warn("cannot watch the disk", "error", err)
		return
	}
	low := diskspace.Kubelet().Low(space)
	d.mu.Lock()
	before := d.low
	d.low = low
	d.mu.Unlock()
	switch {
	case low != "" && before == "":
		d.log.Warn("the disk of the data directory is nearly full: this server refuses writes when it is", "space", low, "dir", d.dir)
	case low == "" && before != "":
		d.log.Info("the disk of the data directory has space again", "dir", d.dir)
	}
}

// message says what there is too little of; empty if there is enough.
func (d *disk) message() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.low
}
