package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/tests/v3/robustness/model"
)

// cluster is three members, each a process.
type cluster struct {
	bin, dir, peers string
	endpoints       []string
	procs           []*exec.Cmd
	kills           int
}

func startCluster(bin, dir string) (*cluster, error) {
	c := &cluster{bin: bin, dir: dir, procs: make([]*exec.Cmd, 3)}
	var peers []string
	pid := os.Getpid()
	for i := range c.procs {
		// Each run has loopback addresses of its own.
		ip := fmt.Sprintf("127.%d.%d.%d", 64+pid%128, pid/128%256, i+1)
		peers = append(peers, fmt.Sprintf("%d=%s:7001/%s:7002/%s:7003", i+1, ip, ip, ip))
		c.endpoints = append(c.endpoints, ip+":7003")
	}
	c.peers = strings.Join(peers, ",")
	waits := make([]func() error, 3)
	for i := range c.procs {
		var err error
		if waits[i], err = c.start(i); err != nil {
			return c, errors.Join(err, c.stop())
		}
	}
	for _, w := range waits {
		if err := w(); err != nil {
			return c, errors.Join(err, c.stop())
		}
	}
	return c, nil
}

// start starts a member; the returned function waits until it serves.
func (c *cluster) start(i int) (ready func() error, err error) {
	cmd := exec.Command(c.bin, "-id", fmt.Sprint(i+1), "-data-dir", c.folder(i), "-peers", c.peers, "-heartbeat", "300ms", "-first-revision",
		"-keep-history", "-snapshot-entries", "20", "-trailing-entries", "5", "-progress-every", "200ms", "-record", c.record(i))
	if err := os.MkdirAll(c.folder(i), 0o755); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(c.folder(i), "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c.procs[i] = cmd
	return func() error {
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || line != "ready\n" {
			return fmt.Errorf("member %d is not ready: %q %w (see %s)", i+1, line, err, c.folder(i))
		}
		return nil
	}, nil
}

func (c *cluster) folder(i int) string { return filepath.Join(c.dir, fmt.Sprint(i+1)) }
func (c *cluster) record(i int) string { return filepath.Join(c.folder(i), "applied.json") }

// kill ends a member without warning.
func (c *cluster) kill(i int) error {
	if c.procs[i] == nil {
		return nil
	}
	if err := c.procs[i].Process.Kill(); err != nil {
		return fmt.Errorf("kill member %d: %w", i+1, err)
	}
	_ = c.procs[i].Wait() // it was killed
	c.procs[i] = nil
	c.kills++
	return nil
}

func (c *cluster) stop() error {
	var errs []error
	for i := range c.procs {
		errs = append(errs, c.kill(i))
	}
	return errors.Join(errs...)
}

// harass kills and starts one member after the other for as long as length.
func (c *cluster) harass(length, every time.Duration) error {
	if every == 0 {
		time.Sleep(length)
		return nil
	}
	end := time.Now().Add(length)
	for i := 0; time.Now().Add(every).Before(end); i = (i + 1) % len(c.procs) {
		time.Sleep(every / 2)
		if err := c.kill(i); err != nil {
			return err
		}
		time.Sleep(every / 4)
		ready, err := c.start(i)
		if err != nil {
			return err
		}
		if err := ready(); err != nil {
			return err
		}
		time.Sleep(every / 4)
	}
	return nil
}

// applied is one line of a member's record: an entry that it applied.
type applied struct {
	Index uint64 `json:"index"`
	Ops   []struct {
		Kind    string `json:"kind"`
		Key     string `json:"key"`
		Value   []byte `json:"value"`
		Lease   int64  `json:"lease"`
		Rev     int64  `json:"rev"`
		SameRev bool   `json:"sameRev"`
	} `json:"ops"`
}

// persisted is what the cluster has applied, as etcd's requests: an entry that any member has applied was committed. A member whose log begins
// after what it has missed gets a snapshot, and applies none of the entries in it; missed is how many such there are. That two members have
// applied different entries at one place is an error.
func (c *cluster) persisted() (all []model.EtcdRequest, missed int, err error) {
	union := map[uint64]applied{}
	var records []map[uint64]applied
	for i := range c.procs {
		record, err := readRecord(c.record(i))
		if err != nil {
			return nil, 0, err
		}
		for index, a := range record {
			if other, ok := union[index]; ok && !reflect.DeepEqual(a, other) {
				return nil, 0, fmt.Errorf("at index %d member %d has applied %+v, and another %+v", index, i+1, a, other)
			}
			union[index] = a
		}
		records = append(records, record)
	}
	for _, index := range slices.Sorted(maps.Keys(union)) {
		for _, r := range records {
			if _, ok := r[index]; !ok {
				missed++
			}
		}
		all = append(all, requests(union[index])...)
	}
	return all, missed, nil
}

// readRecord reads a record. A member that starts again applies its log again, so that an entry may stand there more than once; a line that a
// kill has cut is the last before such a start.
func readRecord(path string) (map[uint64]applied, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	byIndex := map[uint64]applied{}
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadBytes('\n')
		var a applied
		if json.Unmarshal(line, &a) == nil && a.Index > 0 {
			if before, ok := byIndex[a.Index]; ok && !reflect.DeepEqual(a, before) {
				return nil, fmt.Errorf("%s: at index %d it has applied %+v, and then %+v", path, a.Index, before, a)
			}
			byIndex[a.Index] = a
		}
		if errors.Is(err, io.EOF) {
			return byIndex, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// requests turns an entry back into the requests that it holds: writes of one revision are one transaction, of which only the branch that
// ran is known.
func requests(e applied) []model.EtcdRequest {
	var out []model.EtcdRequest
	for _, op := range e.Ops {
		if strings.HasPrefix(op.Key, "/reconcile/") {
			continue
		}
		switch op.Kind {
		case "put", "delete":
			if n := len(out); !op.SameRev || n == 0 || out[n-1].Type != model.Txn {
				out = append(out, model.EtcdRequest{Type: model.Txn, Txn: &model.TxnRequest{}})
			}
			o := model.EtcdOperation{Type: model.PutOperation, Put: model.PutOptions{Key: op.Key, Value: model.ToValueOrHash(string(op.Value)), LeaseID: op.Lease}}
			if op.Kind == "delete" {
				o = model.EtcdOperation{Type: model.DeleteOperation, Delete: model.DeleteOptions{Key: op.Key}}
			}
			txn := out[len(out)-1].Txn
			txn.OperationsOnSuccess = append(txn.OperationsOnSuccess, o)
		case "grant":
			out = append(out, model.EtcdRequest{Type: model.LeaseGrant, LeaseGrant: &model.LeaseGrantRequest{LeaseID: op.Lease}})
		case "revoke":
			out = append(out, model.EtcdRequest{Type: model.LeaseRevoke, LeaseRevoke: &model.LeaseRevokeRequest{LeaseID: op.Lease}})
		case "compact":
			out = append(out, model.EtcdRequest{Type: model.Compact, Compact: &model.CompactRequest{Revision: op.Rev}})
		}
	}
	return out
}
