package faulttest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"reconcile/internal/netnstest"
)

// Config is what a cluster is made of. The zero value is three members on the loopback interface and on the disk of the temporary folder.
type Config struct {
	// Heartbeat is raftstore.Config.Heartbeat. Default 300 ms: elections take a third of the production time, and tests too.
	Heartbeat time.Duration
	// SnapshotEntries and TrailingEntries are raftstore's. Defaults 1000 and 500, so that faults meet snapshots.
	SnapshotEntries, TrailingEntries uint64
	// Network puts every member on a machine of its own, for Partition. It needs root.
	Network bool
	// Air does the same, and this process carries their packets: for Weather, and for cuts too.
	Air bool
	// Disks puts every member on a Disk of its own, for power cuts and failing writes. It needs /dev/fuse.
	Disks bool
	// Failpoints are those of every member from its start on (see internal/fp).
	Failpoints string
	// Members is their number. Default 3.
	Members int
}

// Cluster is the members of one test. Its methods are called by the test's goroutine.
type Cluster struct {
	// Members are all of them, dead or alive.
	Members []*Member
	// Dice are the test's own, for what it does to members: clients and disks have others.
	*Dice

	gone    []*Member // that were removed
	t       testing.TB
	cfg     Config
	dir     string // of data, logs and, in the end, histories
	lab     *netnstest.Lab
	lan     *netnstest.Switch
	air     *netnstest.Air
	network net.Listener // claims the cluster's network on the loopback interface
}

// claimed is taken in a cluster's network as long as the cluster is there.
const claimed = "127.%d.%d.255:7009"

// claim takes a network of 254 addresses on the loopback interface that no other cluster has, of this process or another.
func claim(t testing.TB) net.Listener {
	t.Helper()
	var err error
	for pid := os.Getpid(); ; pid++ {
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf(claimed, 64+(pid>>8)%128, pid%256)); err == nil {
			return l
		}
		if pid > os.Getpid()+1000 {
			t.Fatalf("no network is free on the loopback interface: %v", err)
		}
	}
}

// local is the i-th address of the cluster's network on the loopback interface.
func (c *Cluster) local(i int) string {
	ip := c.network.Addr().(*net.TCPAddr).IP.To4()
	return net.IPv4(ip[0], ip[1], ip[2], byte(i)).String()
}

// Start makes a cluster and returns when it has a leader. It is stopped when t ends; what it kept is removed unless t has failed.
func Start(t testing.TB, cfg Config) *Cluster {
	t.Helper()
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = 300 * time.Millisecond
	}
	if cfg.SnapshotEntries == 0 {
		cfg.SnapshotEntries, cfg.TrailingEntries = 1000, 500
	}
	if cfg.Members == 0 {
		cfg.Members = 3
	}
	dir, err := os.MkdirTemp("", "faulttest-")
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{t: t, cfg: cfg, Dice: NewDice(t, "test"), dir: dir}
	t.Cleanup(c.close)
	switch {
	case cfg.Air:
		c.lab = netnstest.New(t)
		c.air = c.lab.Air(NewDice(t, "air").Uint64())
	case cfg.Network:
		c.lab = netnstest.New(t)
		c.lan = c.lab.Switch("lan")
	default:
		c.network = claim(t)
	}
	peers := map[string]string{}
	for i := range cfg.Members {
		m := c.add(i)
		peers[m.ID] = m.address
	}
	for _, m := range c.Members {
		m.peers = peers
		m.Start()
	}
	if err := c.Leader().Admin("namespace", nil, leaderWithin); err != nil {
		t.Fatalf("make a namespace: %v", err)
	}
	return c
}

// add makes a member that is not started.
func (c *Cluster) add(i int) *Member {
	c.t.Helper()
	m := &Member{c: c, ID: fmt.Sprintf("m%d", i+1), dir: filepath.Join(c.dir, fmt.Sprintf("m%d", i+1))}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	if c.lab != nil {
		m.address = fmt.Sprintf("192.168.77.%d", i+1)
		m.machine = c.lab.Machine(m.ID)
		if c.air != nil {
			m.machine.Fly(c.air, "eth0", m.address+"/24")
		} else {
			m.machine.Attach(c.lan, "eth0", m.address+"/24")
		}
	} else {
		m.address = c.local(1 + i)
	}
	if c.cfg.Disks {
		m.Disk = mountDisk(c.t, m.dir, NewDice(c.t, m.ID))
	}
	m.client = &http.Client{Transport: &http.Transport{DialContext: m.dial, MaxIdleConnsPerHost: 8}}
	c.Members = append(c.Members, m)
	return m
}

// Join makes one more member, which waits to be added, and starts it.
func (c *Cluster) Join() *Member {
	c.t.Helper()
	m := c.add(len(c.Members) + len(c.gone))
	m.peers = map[string]string{}
	m.Start()
	return m
}

// close ends all processes and removes the folder, or tells where it is if the test has failed.
func (c *Cluster) close() {
	for _, m := range append(c.gone, c.Members...) {
		if m.cmd != nil {
			m.Kill()
		}
		m.closeClients()
		if m.Disk != nil {
			m.Disk.unmount()
		}
	}
	if c.network != nil {
		_ = c.network.Close()
	}
	if c.t.Failed() {
		c.t.Logf("to draw the same again: make faults FAULT='^%s$' %s=%s, with %s=%q", strings.ReplaceAll(c.t.Name(), "/", "$/^"), SeedVariable, os.Getenv(SeedVariable),
			FaultsVariable, os.Getenv(FaultsVariable))
		c.t.Logf("the members' logs and data, and the histories as far as there are any, are kept in %s", c.dir)
		return
	}
	if err := os.RemoveAll(c.dir); err != nil {
		c.t.Errorf("remove the data of the members: %v", err)
	}
}

// Dir is the folder of this cluster's data, logs and histories.
func (c *Cluster) Dir() string { return c.dir }

// leaderWithin is how long a leader is waited for.
const leaderWithin = time.Minute

// Leader waits for a leader that most members follow, and returns it.
func (c *Cluster) Leader() *Member {
	c.t.Helper()
	if m := c.FindLeader(leaderWithin); m != nil {
		return m
	}
	c.t.Fatalf("no leader within %s: %+v", leaderWithin, c.Statuses())
	return nil
}

// FindLeader is Leader, and nil if there is none in time.
func (c *Cluster) FindLeader(within time.Duration) *Member {
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		followers := map[string]int{}
		all := c.Statuses()
		for _, s := range all {
			followers[s.Leader]++
		}
		for _, m := range c.Members {
			if s, ok := all[m.ID]; ok && s.Self && 2*followers[m.ID] > c.cfg.Members {
				return m
			}
		}
	}
	return nil
}

// Admin has the leader change the membership by another member, however often leadership moves meanwhile; a change that was made is not
// an error when it is made again.
func (c *Cluster) Admin(do string, m *Member, within time.Duration) {
	c.t.Helper()
	err := errors.New("no leader")
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if l := c.FindLeader(time.Second); l != nil {
			if err = l.Admin(do, m, time.Until(deadline)); err == nil {
				return
			}
		}
	}
	c.t.Fatalf("%s %s: %v", do, m.ID, err)
}

// Statuses asks all members at once; those that do not answer within a second are missing.
func (c *Cluster) Statuses() map[string]Status {
	type found struct {
		s  Status
		ok bool
	}
	answers := make(chan found, len(c.Members))
	for _, m := range c.Members {
		go func() {
			s, err := m.Status(time.Second)
			answers <- found{s, err == nil}
		}()
	}
	out := map[string]Status{}
	for range c.Members {
		if f := <-answers; f.ok {
			out[f.s.ID] = f.s
		}
	}
	return out
}

// Term is the greatest term of any member that answers.
func (c *Cluster) Term() uint64 {
	var term uint64
	for _, s := range c.Statuses() {
		term = max(term, s.Term)
	}
	return term
}

// Followers are the members that are not the given one.
func (c *Cluster) Followers(leader *Member) []*Member {
	var out []*Member
	for _, m := range c.Members {
		if m != leader {
			out = append(out, m)
		}
	}
	return out
}

// equalWithin is how long members may take to come to one state.
const equalWithin = 40 * time.Second

// Equal waits until all running members are at one revision, which is at least the given one, and in one state, and fails the test if they do not
// come there. It returns the revision and the digest. Nothing may be written meanwhile.
func (c *Cluster) Equal(atLeast uint64) (uint64, string) {
	c.t.Helper()
	var last map[string]Status
	for deadline := time.Now().Add(equalWithin); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		last = map[string]Status{}
		revs, digests := map[uint64]bool{}, map[string]bool{}
		for _, m := range c.Members {
			if m.cmd == nil {
				continue
			}
			s, err := m.ask("/status?digest=1", 10*time.Second)
			if err != nil || s.Rev < atLeast {
				revs = nil
				break
			}
			last[m.ID] = s
			revs[s.Rev], digests[s.Digest] = true, true
		}
		if len(revs) != 1 {
			continue
		}
		if len(digests) != 1 {
			continue // an entry without a revision of its own, such as a lease's, may be on its way
		}
		for rev := range revs {
			for d := range digests {
				return rev, d
			}
		}
	}
	c.t.Errorf("the members did not come to one revision and one state within %s: %+v", equalWithin, last)
	return 0, ""
}

// Partition stops everything between the members of a and the others, in both directions.
func (c *Cluster) Partition(a ...*Member) {
	c.t.Helper()
	for _, m := range a {
		for _, o := range c.Members {
			if !contains(a, o) {
				c.Cut(m, o)
				c.Cut(o, m)
			}
		}
	}
}

// Cut stops what one member sends to another; the other direction stays.
func (c *Cluster) Cut(from, to *Member) {
	c.t.Helper()
	if c.air != nil {
		c.air.Set(from.machine, to.machine, netnstest.Weather{Loss: 1})
		return
	}
	c.lab.Cut(from.machine, to.machine)
}

// Weather makes the weather from one member to another; the other direction stays. It needs Config.Air.
func (c *Cluster) Weather(from, to *Member, w netnstest.Weather) {
	c.air.Set(from.machine, to.machine, w)
}

// Heal undoes all cuts and makes all weather good.
func (c *Cluster) Heal() {
	c.t.Helper()
	if c.air != nil {
		c.air.Clear()
	}
	c.lab.Heal()
}

// Forget takes a member that was removed from the cluster out of the list, killed.
func (c *Cluster) Forget(m *Member) {
	m.Kill()
	if m.Disk != nil {
		m.Disk.discard()
	}
	c.Members = slices.DeleteFunc(c.Members, func(o *Member) bool { return o == m })
	c.gone = append(c.gone, m)
}

func contains(list []*Member, m *Member) bool {
	for _, o := range list {
		if o == m {
			return true
		}
	}
	return false
}

// SetFailpoints replaces the failpoints of all running members.
func (c *Cluster) SetFailpoints(spec string) {
	c.t.Helper()
	for _, m := range c.Members {
		if m.cmd != nil {
			m.SetFailpoints(spec)
		}
	}
}

// Hits adds up how often each failpoint was passed by the members that run.
func (c *Cluster) Hits() map[string]int {
	sum := map[string]int{}
	for _, s := range c.Statuses() {
		for name, n := range s.Hits {
			sum[name] += n
		}
	}
	return sum
}

// config is what a member is told.
func (c *Cluster) config(m *Member) memberConfig {
	return memberConfig{ID: m.ID, Dir: m.data(), Address: m.address, Peers: maps.Clone(m.peers), Fresh: !m.served, HeartbeatMillis: int(c.cfg.Heartbeat.Milliseconds()),
		SnapshotEntries: c.cfg.SnapshotEntries, TrailingEntries: c.cfg.TrailingEntries}
}

// ask gets a status.
func (m *Member) ask(path string, within time.Duration) (Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(m.address, rpcPort)+path, nil)
	if err != nil {
		return Status{}, err
	}
	res, err := m.client.Do(req)
	if err != nil {
		return Status{}, err
	}
	defer res.Body.Close()
	var s Status
	err = json.NewDecoder(res.Body).Decode(&s)
	return s, err
}

// Status asks the member.
func (m *Member) Status(within time.Duration) (Status, error) { return m.ask("/status", within) }
