package testcluster

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// Isolate cuts server i off from all others, both ways. Its clients still reach it.
func (c *Cluster) Isolate(i int) {
	c.net.cutAll(i)
	c.History.note("network", c.servers[i].ID+" isolated", 0)
}

// CutOneWay lets nothing that server i begins reach server j: neither raft's messages nor forwarded requests. What j asks of i is
// still asked and answered.
func (c *Cluster) CutOneWay(i, j int) {
	c.net.cutOneWay(i, j)
	c.History.note("network", c.servers[i].ID+" no longer reaches "+c.servers[j].ID, 0)
}

// Silence cuts server i off as a loss of power does: nobody learns that a connection is gone. What is forwarded to it, or was under
// way, is answered by nothing but the end of its context.
func (c *Cluster) Silence(i int) {
	c.net.mu.Lock()
	c.net.silent[i] = true
	c.net.mu.Unlock()
	c.net.cutAll(i)
	c.History.note("network", c.servers[i].ID+" silent", 0)
}

// Heal joins all running servers again.
func (c *Cluster) Heal() {
	c.net.heal()
	c.History.note("network", "healed", 0)
}

// SlowDisk makes every write of server i's log and vote take so long; 0 makes it quick again. Only for storage in memory.
func (c *Cluster) SlowDisk(i int, each time.Duration) {
	c.servers[i].disk.slow(each)
	c.History.note("disk", fmt.Sprintf("each write of %s takes %s", c.servers[i].ID, each), 0)
}

// FillDisk fails the next write of server i's log, at which the server dies. Restart makes room again. Only for storage in memory.
func (c *Cluster) FillDisk(i int) {
	c.servers[i].disk.fill()
	c.History.note("disk", c.servers[i].ID+"'s is full", 0)
}

// Skew sets server i's wall clock so far ahead of the others' (negative: behind). Timers go on as before.
func (c *Cluster) Skew(i int, by time.Duration) {
	c.servers[i].skew.Store(int64(by))
	c.History.note("clock", fmt.Sprintf("%s's is %s ahead", c.servers[i].ID, by), 0)
}

// disk is what can happen to a server's storage.
type disk struct {
	mu     sync.Mutex
	each   time.Duration
	full   bool
	failed bool // a write has failed since the last repair
}

var errDiskFull = errors.New("no space left on the test's device")

// write is called before every write. A vote always finds room: raft panics where it cannot be kept.
func (d *disk) write(vote bool) error {
	d.mu.Lock()
	each, full := d.each, d.full && !vote
	d.failed = d.failed || full
	d.mu.Unlock()
	if full {
		return errDiskFull
	}
	if each > 0 {
		time.Sleep(each)
	}
	return nil
}

func (d *disk) slow(each time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.each = each
}

func (d *disk) fill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = true
}

// repair makes room; how slow the disk is stays.
func (d *disk) repair() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full, d.failed = false, false
}

func (d *disk) hasFailed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}
