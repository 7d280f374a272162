package raftstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"

	"reconcile/raftstore/disk"
	"reconcile/raftstore/seal"
)

// Config is what a member needs. Dir or Storage, and Transport, must be set; the rest has defaults.
type Config struct {
	// Dir is the member's data folder. It is created if Bootstrap or Join is set.
	Dir string
	// Log is the kind of log of a new folder: LogWAL (the default) or LogBoltDB. An existing folder keeps its own.
	Log string
	// Key, if set, is where the key is kept that wraps the keys by which a new folder is encrypted; an encrypted folder needs it at each
	// start. Nil: a new folder is not encrypted. An existing folder stays as it is.
	Key seal.Source
	// FS is the file layer under everything in Dir but the vote. Default: the operating system's. Tests count and stop at its operations.
	FS disk.FS
	// Storage, if set, takes the place of Dir: tests give a MemoryStorage, which outlives the Store as a folder does.
	Storage *Storage
	// ServerID names this member for all time. Empty: the one in the folder, or a new random one for a new member.
	ServerID string
	// ClusterID, if set, must be the folder's; a new cluster or member takes it. Empty: a new random one at Bootstrap.
	ClusterID string
	// Bootstrap makes a new cluster if the folder was never used: of this member alone, or of Servers. It is ignored afterwards.
	Bootstrap bool
	Servers   []Server
	// Join makes a member that waits to be added to an existing cluster, if the folder was never used.
	// With neither Bootstrap nor Join an unused folder is refused: an emptied one must not pass for a new member.
	Join bool
	// Transport carries raft's messages. The store closes it if it can be closed.
	Transport raft.Transport
	// Index, if set, gives the index keys of a record (View.Indexed); those that begin with Counted are only counted (View.Tally). It must be pure: the same
	// on every member.
	Index func(*Record) []string

	// Fetch, if set, gets the bytes of a blob from another member (its ServeBlob). Snapshots name blobs and do not hold them: a member that takes
	// one over fetches what it lacks before it goes on, from whoever has it. It blocks. The error is ErrNoBlob if the member answered that it has
	// none, and only then.
	Fetch func(ctx context.Context, from Server, digest string) ([]byte, error)

	// Heartbeat is the time without a leader after which a member stands for election; Election and LeaderLease follow from it.
	// Default 1 s.
	Heartbeat time.Duration
	// CommitTimeout is how soon followers hear of the last commit when no other follows. Default 50 ms.
	CommitTimeout time.Duration
	// SnapshotEntries is the number of entries after which a snapshot is taken, TrailingEntries how many are kept behind it.
	// Defaults 8192 and 4096.
	SnapshotEntries, TrailingEntries uint64
	// LogBytes is how much room the log may take on disk: when it has more, a snapshot is taken and fewer entries are kept behind it.
	// Default 256 MiB. It does not bind a log of boltdb, whose file never shrinks.
	LogBytes int64
	// SnapshotInterval is how often the number is looked at. Default 30 s.
	SnapshotInterval time.Duration
	// HistoryEvents and HistoryBytes bound the ring of events that watches share. Defaults 65536 and 64 MiB.
	HistoryEvents, HistoryBytes int
	// RetainAge, RetainRevisions and RetainBytes bound the history, that is the older versions of keys that reads and watches can go back
	// to: the leader compacts it when one of them is passed. Age is by the leader's
	// monotonic clock since it has seen them, bytes are those of keys and values. A
	// negative age, or the greatest number, does not bound. Defaults 8 min, 200,000 and 256 MiB: Kubernetes' clients are
	// promised that a page's token is good for five minutes, and that it has an end within ten.
	RetainAge                    time.Duration
	RetainRevisions, RetainBytes uint64
	// LeaseGrace is the least time that a new leader gives every lease. Default 5 s.
	LeaseGrace time.Duration
	// Trace, if set, hears of every entry.
	Trace Trace
	// Logger is where the store and raft log. Default: nowhere.
	Logger *slog.Logger
}

// Server is one member of the cluster.
type Server struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	// Voter is false for a member that only follows.
	Voter bool `json:"voter"`
}

// Validate lists all faults of the configuration.
func (c *Config) Validate() error {
	var errs []error
	if (c.Dir == "") == (c.Storage == nil) {
		errs = append(errs, errors.New("set one of Dir and Storage"))
	}
	if c.Log != "" && c.Log != LogWAL && c.Log != LogBoltDB {
		errs = append(errs, fmt.Errorf("the kind of log %q is neither %q nor %q", c.Log, LogWAL, LogBoltDB))
	}
	if c.Transport == nil {
		errs = append(errs, errors.New("the field Transport is missing"))
	} else if _, ok := c.Transport.(raft.WithPreVote); !ok {
		errs = append(errs, fmt.Errorf("the Transport %T cannot carry pre-votes", c.Transport))
	}
	if c.Bootstrap && c.Join {
		errs = append(errs, errors.New("the fields Bootstrap and Join exclude each other"))
	}
	if len(c.Servers) > 0 && c.ServerID == "" {
		errs = append(errs, errors.New("the field Servers needs a ServerID"))
	}
	for _, d := range []time.Duration{c.Heartbeat, c.CommitTimeout, c.SnapshotInterval} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("a duration is negative: %s", d))
		}
	}
	if c.HistoryEvents < 0 || c.HistoryBytes < 0 {
		errs = append(errs, errors.New("HistoryEvents and HistoryBytes must not be negative"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("configure the store: %w", err)
	}
	return nil
}

func (c *Config) defaults() {
	orDuration(&c.Heartbeat, time.Second)
	orDuration(&c.CommitTimeout, 50*time.Millisecond)
	orDuration(&c.SnapshotInterval, 30*time.Second)
	if c.Log == "" {
		c.Log = LogWAL
	}
	if c.FS == nil {
		c.FS = disk.OS{}
	}
	if c.SnapshotEntries == 0 {
		c.SnapshotEntries = 8192
	}
	if c.LogBytes == 0 {
		c.LogBytes = 256 << 20
	}
	if c.TrailingEntries == 0 {
		c.TrailingEntries = 4096
	}
	if c.HistoryEvents == 0 {
		c.HistoryEvents = 64 << 10
	}
	if c.HistoryBytes == 0 {
		c.HistoryBytes = 64 << 20
	}
	orDuration(&c.LeaseGrace, 5*time.Second)
	orDuration(&c.RetainAge, 8*time.Minute)
	if c.RetainRevisions == 0 {
		c.RetainRevisions = 200_000
	}
	if c.RetainBytes == 0 {
		c.RetainBytes = 256 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Index == nil {
		c.Index = func(*Record) []string { return nil }
	}
}

func orDuration(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}
