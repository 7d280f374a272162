package faulttest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"reconcile/internal/netnstest"
)

// Member is one member: a folder, an address, and a process as long as it runs.
type Member struct {
	// ID is its server ID.
	ID string
	// Disk is what its data lies on, nil if that is the machine's own.
	Disk *Disk

	c       *Cluster
	dir     string // where its data, or the disk with it, is
	address string
	machine *netnstest.Machine
	peers   map[string]string // empty for one that joins
	client  *http.Client
	cmd     *exec.Cmd   // nil while it does not run
	exited  chan ending // of cmd; holds one
	starts  int
	served  bool // has served once: from then on its folder is not a new one's
	// points are the failpoints of its next start, besides those of the cluster.
	points string

	dialEtcd   sync.Once
	etcdClient *clientv3.Client
	etcdError  error
}

// ending is how a process ended: nil for code 0.
type ending struct{ err error }

// data is the store's folder.
func (m *Member) data() string { return filepath.Join(m.dir, "store") }

// Data is the store's folder, to be looked at or damaged while the member does not run.
func (m *Member) Data() string { return m.data() }

// startWithin is how long a member may take until its ports answer.
const startWithin = time.Minute

// Start starts the member's process and returns when its ports answer.
func (m *Member) Start() {
	m.c.t.Helper()
	if err := m.TryStart(); err != nil {
		m.c.t.Fatalf("start member %s: %v", m.ID, err)
	}
}

// TryStart is Start, and tells why the member does not serve: what it wrote to its log then.
func (m *Member) TryStart() error {
	if m.cmd != nil {
		return fmt.Errorf("it runs")
	}
	cfg, err := json.Marshal(m.c.config(m))
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	m.starts++
	logName := filepath.Join(m.c.dir, fmt.Sprintf("%s.%03d.log", m.ID, m.starts))
	log, err := os.Create(logName)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), memberVariable+"="+string(cfg), "RECONCILE_FAILPOINTS="+m.c.cfg.Failpoints+";"+m.points)
	cmd.Stderr = log
	_, err = cmd.StdinPipe() // the member ends when this end is closed
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	start := cmd.Start
	if m.machine != nil {
		start = func() error { return m.machine.Start(cmd) }
	}
	if err := start(); err != nil {
		return err
	}
	serving, exited := make(chan struct{}), make(chan ending, 1)
	go func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			if lines.Text() == servingLine {
				close(serving)
			}
		}
		exited <- ending{cmd.Wait()}
	}()
	m.cmd, m.exited = cmd, exited
	select {
	case <-serving:
		m.served = true
		return nil
	case end := <-exited:
		m.cmd = nil
		text, _ := os.ReadFile(logName)
		return fmt.Errorf("it ended: %w: %s", end.err, lastLine(string(text)))
	case <-time.After(startWithin):
		m.Kill()
		return fmt.Errorf("it did not serve within %s; see %s", startWithin, logName)
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// Kill ends the member as kill -9 does, and returns when it is gone.
func (m *Member) Kill() {
	if m.cmd == nil {
		return
	}
	_ = m.cmd.Process.Kill() // it may have ended by itself
	<-m.exited
	m.cmd = nil
}

// Stop ends the member by SIGTERM, as systemd does.
func (m *Member) Stop() {
	m.c.t.Helper()
	if m.cmd == nil {
		return
	}
	_ = m.cmd.Process.Signal(syscall.SIGTERM)
	if err := m.Exit(time.Minute); err != nil {
		m.c.t.Errorf("stop member %s: %v", m.ID, err)
	}
}

// Exit waits until the member has ended by itself, and returns its exit's error, nil for code 0.
func (m *Member) Exit(within time.Duration) error {
	select {
	case end := <-m.exited:
		m.cmd = nil
		return end.err
	case <-time.After(within):
		m.Kill()
		return fmt.Errorf("it still ran after %s", within)
	}
}

// Revive starts the member again if it has ended by itself. It tells whether it had.
func (m *Member) Revive() bool {
	m.c.t.Helper()
	if !m.Ended() {
		return false
	}
	m.Start()
	return true
}

// Ended tells whether the process does not run, and sees to it if it has ended by itself.
func (m *Member) Ended() bool {
	if m.cmd != nil {
		select {
		case <-m.exited:
			m.cmd = nil
		default:
		}
	}
	return m.cmd == nil
}

// StartWith is TryStart with failpoints from the beginning on.
func (m *Member) StartWith(failpoints string) error {
	m.points = failpoints
	defer func() { m.points = "" }()
	return m.TryStart()
}

// Running tells whether the process was started and has not been seen to end.
func (m *Member) Running() bool { return m.cmd != nil }

// Pause stops the process for a while, as a machine that hangs.
func (m *Member) Pause() { m.signal(syscall.SIGSTOP) }

// Resume lets it go on.
func (m *Member) Resume() { m.signal(syscall.SIGCONT) }

func (m *Member) signal(s os.Signal) {
	if m.cmd != nil {
		_ = m.cmd.Process.Signal(s) // it may have ended by itself
	}
}

// SetFailpoints replaces the member's failpoints.
func (m *Member) SetFailpoints(spec string) {
	m.c.t.Helper()
	if err := m.TrySetFailpoints(spec); err != nil {
		m.c.t.Fatalf("set the failpoints of %s: %v", m.ID, err)
	}
}

// TrySetFailpoints is SetFailpoints of a member that may be away.
func (m *Member) TrySetFailpoints(spec string) error {
	return m.call("/failpoints", spec, 5*time.Second)
}

// Admin tells the member to change the membership ("add-voter", "add-nonvoter", "remove"), to take a "snapshot" or to "transfer" leadership.
func (m *Member) Admin(do string, other *Member, within time.Duration) error {
	q := url.Values{"do": {do}}
	if other != nil {
		q.Set("id", other.ID)
		q.Set("address", net.JoinHostPort(other.address, raftPort))
	}
	return m.call("/admin?"+q.Encode(), "", within)
}

// StageBlob has the member stage a blob, and a key of this name hold it instead of the one before. Only the leader can; it may be called by any goroutine.
func (m *Member) StageBlob(ctx context.Context, name string) error {
	return m.callIn(ctx, "/admin?"+url.Values{"do": {"blob"}, "id": {name}}.Encode(), "", 5*time.Second)
}

func (m *Member) call(path, body string, within time.Duration) error {
	return m.callIn(context.Background(), path, body, within)
}

func (m *Member) callIn(ctx context.Context, path, body string, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	_, err := post(ctx, m.client, m.address, path, []byte(body))
	return err
}

// dial connects to the member from its own machine, so that no partition comes between.
func (m *Member) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if m.machine != nil {
		return m.machine.Dial("tcp4", addr, 2*time.Second)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, addr)
}
