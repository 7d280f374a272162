package gitops

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"reconcile/manifests"
	"reconcile/manifests/git"
	"reconcile/object"
	"reconcile/plan"
	"reconcile/sequencer"
)

// Writer is what gitops needs of the sequencer.
type Writer interface {
	// Submit commits a request as a whole, or not at all. See sequencer.Request.
	Submit(ctx context.Context, req sequencer.Request) (sequencer.Result, error)
	// Forecast settles a request on a committed view as Submit would, and commits nothing.
	Forecast(ctx context.Context, req sequencer.Request) (sequencer.Outcome, error)
	// StageBlob stores bytes under their digest before an entry refers to them.
	StageBlob(ctx context.Context, data []byte) (digest string, err error)
	// Barrier returns when this server's state shows every write that was acknowledged anywhere before the call.
	Barrier(ctx context.Context) error
}

// View is what gitops reads of the cluster's state. Objects are shared and not to be changed.
type View interface {
	Get(object.Key) (object.Object, bool)
	// FromSource yields the objects that a source made or adopted, and has not given up: those that bear its mark.
	FromSource(source string) iter.Seq[object.Object]
}

// State gives the newest state that this server has.
type State interface{ View() View }

// Config is what a Service needs. Everything but Source, Limits and Log must be set.
type Config struct {
	// Cluster is the cluster's identity, which goes into the UIDs of objects from git.
	Cluster string
	// Source is the name of the source; empty is "cluster".
	Source string
	// Store holds the repository, State the objects, Writer writes both.
	Store  git.Store
	State  State
	Writer Writer
	Loader *manifests.Loader
	Limits git.Limits
	// Now is the clock.
	Now func() time.Time
	// Extensions are those of the cluster's scheduler, which profiles may name.
	Extensions []*plan.Extension
	// Log is where commits are logged. Default: nowhere.
	Log *slog.Logger
}

// Validate lists all faults.
func (c *Config) Validate() error {
	var errs []error
	for _, field := range []struct {
		name    string
		missing bool
	}{
		{"Cluster", c.Cluster == ""}, {"Store", c.Store == nil}, {"State", c.State == nil}, {"Writer", c.Writer == nil}, {"Loader", c.Loader == nil}, {"Now", c.Now == nil},
	} {
		if field.missing {
			errs = append(errs, errors.New(field.name+" is missing"))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("configure gitops: %w", err)
	}
	return nil
}

// Service is the way of every commit. It is safe for concurrent use, and runs no goroutine of its own.
//
// HTTP reaches it so: GET info/refs?service=S is AdvertiseRefs (the answer's Content-Type is application/x-S-advertisement),
// POST git-receive-pack is ReceivePack, POST git-upload-pack is UploadPack (application/x-S-result). Bodies come un-gzipped; a
// writer with a Flush method is flushed after each message. POST /reconcile/v1/plan, /diff and /apply carry PlanRequest and
// PlanResponse as JSON.
type Service struct {
	cfg  Config
	repo *git.Repository
	log  *slog.Logger

	// turn is held from the decision about a commit to its end: two pushes at once would only make one of them stale.
	turn sync.Mutex
	// mu guards last.
	mu   sync.Mutex
	last tree
}

// tree is what a commit's tree holds, by key. That of main spares the comparison of documents which are as before; what the source
// owns, and so may prune, is told by the live objects.
type tree struct {
	hash git.Hash
	objs map[object.Key]*manifests.Manifest
}

// New returns a service that has read nothing yet.
func New(cfg Config) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Source == "" {
		cfg.Source = "cluster"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	repo, err := git.Open(git.Config{Store: cfg.Store, Limits: cfg.Limits, Options: func(o string) error {
		_, err := parseOptions([]string{o})
		return err
	}})
	if err != nil {
		return nil, err
	}
	return &Service{cfg: cfg, repo: repo, log: cfg.Log}, nil
}

// Warm replays the repository and reads the tree of main, so that the first push does not pay for it.
func (s *Service) Warm(ctx context.Context) error {
	snap, err := s.repo.Sync(ctx)
	if err != nil {
		return fmt.Errorf("read the repository: %w", err)
	}
	_, err = s.treeOf(ctx, s.repo, snap.Refs[git.MainRef])
	return err
}

// catchUpTime bounds the wait for what other servers have acknowledged.
const catchUpTime = 2 * time.Second

// catchUp makes this server's state as new as any, so that who pushes or fetches through another server than before is not
// told that something is stale. Without a leader the state stays what it is: reads still work, and a write fails by itself.
func (s *Service) catchUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, catchUpTime)
	defer cancel()
	if err := s.cfg.Writer.Barrier(ctx); err != nil {
		s.log.Warn("answer with a state that may be old", "error", err)
	}
}

// treeOf reads the tree of a commit that was accepted before; the zero hash is the empty tree. A tree with findings (CUE that was
// given no time, rules that have become stricter) lacks objects: it says truly what it holds, and is read again the next time.
func (s *Service) treeOf(ctx context.Context, objects repository, commit git.Hash) (tree, error) {
	if commit.IsZero() {
		return tree{}, nil
	}
	c, err := objects.Commit(commit)
	if err != nil {
		return tree{}, fmt.Errorf("read the tree of main: %w", err)
	}
	s.mu.Lock()
	last := s.last
	s.mu.Unlock()
	if last.hash == c.Tree && last.objs != nil {
		return last, nil
	}
	res, err := s.cfg.Loader.Load(ctx, manifests.CommitTree(objects, c.Tree))
	if err != nil {
		return tree{}, fmt.Errorf("read the tree of main: %w", err)
	}
	t := newTree(c.Tree, res)
	if len(res.Findings) > 0 {
		s.log.Warn("main's tree cannot be read whole", "commit", object.ShortCommit(commit.String()), "findings", len(res.Findings), "first", res.Findings[0].String())
		return t, nil
	}
	s.remember(t)
	return t, nil
}

func newTree(hash git.Hash, res *manifests.Result) tree {
	t := tree{hash: hash, objs: make(map[object.Key]*manifests.Manifest, len(res.Manifests))}
	for _, m := range res.Manifests {
		t.objs[m.Key] = m
	}
	return t
}

func (s *Service) remember(t tree) {
	s.mu.Lock()
	s.last = t
	s.mu.Unlock()
}

// repository reads commits, trees and blobs: git.Repository and git.Quarantine do.
type repository interface {
	manifests.Objects
	Commit(h git.Hash) (git.Commit, error)
}
