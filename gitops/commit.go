package gitops

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/manifests"
	"reconcile/manifests/git"
	"reconcile/object"
	"reconcile/plan"
	"reconcile/sequencer"
)

// inlinePack is the largest pack that travels in the entry itself; larger ones are staged as a blob before it.
const inlinePack = 256 << 10

// maxLedger bounds the objects that a ledger entry lists. Of a larger tree it lists what the commit creates and changes.
const maxLedger = 1000

// candidate is a commit on its way.
type candidate struct {
	commit   git.Commit
	objects  *git.Quarantine
	pack     []byte
	commands []git.Command
	user     string
	opts     options
	token    string
	received time.Time
	// dryRun ends the way with the plan.
	dryRun bool
	// way is how options are given where it comes from; empty for a push. See plan.Guard.
	way string
}

// outcome is what became of a candidate.
type outcome struct {
	findings []manifests.Finding
	// refused is a rule's objection: the guard's. The plan then tells what it objects to.
	refused string
	plan    *plan.Plan
	rev     uint64
	// nothing tells that there was nothing to write.
	nothing bool
}

// rounds is how often a commit is decided again because the state moved while it was decided.
const rounds = 8

// run takes a candidate all the way. An error means that it failed for another reason than its content.
func (s *Service) run(ctx context.Context, c *candidate) (*outcome, error) {
	log := s.logOf(c)
	log.Info("commit received", "user", c.user)
	res, err := s.cfg.Loader.Load(ctx, manifests.CommitTree(c.objects, c.commit.Tree))
	if err != nil {
		return nil, fmt.Errorf("read the commit's tree: %w", err)
	}
	if len(res.Findings) > 0 {
		log.Info("commit refused", "findings", len(res.Findings))
		return &outcome{findings: res.Findings}, nil
	}
	validated := s.cfg.Now()
	log.Info("commit validated", "objects", len(res.Manifests), "after", validated.Sub(c.received))
	if !c.dryRun {
		s.turn.Lock()
		defer s.turn.Unlock()
	}
	for round := 1; ; round++ {
		out, err := s.round(ctx, c, res, validated)
		if err == nil || round == rounds || !moved(err) || ctx.Err() != nil {
			return out, err
		}
	}
}

// logOf is the log of one commit's way: every line has the commit's first twelve digits, as the lines of the sequencer and of the
// nodes have that run what it made. A preview changes nothing and logs nothing.
func (s *Service) logOf(c *candidate) *slog.Logger {
	if c.dryRun {
		return slog.New(slog.DiscardHandler)
	}
	return s.log.With("commit", object.ShortCommit(c.commit.Hash.String()))
}

// moved tells whether an error comes from a state that changed between the decision and the commit. If main itself has moved,
// round says so in the next turn.
func moved(err error) bool {
	return errors.Is(err, sequencer.ErrStale) || apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err)
}

// errMoved tells that main is not where the candidate's client believed it to be.
type errMoved struct{ now git.Hash }

func (e errMoved) Error() string {
	return fmt.Sprintf("stale: main is at %.7s now; git fetch, rebase and push again", e.now)
}

// round decides on the newest state and submits.
func (s *Service) round(ctx context.Context, c *candidate, res *manifests.Result, validated time.Time) (*outcome, error) {
	view := s.cfg.State.View()
	snap, err := s.repo.Sync(ctx)
	if err != nil {
		return nil, err
	}
	main := snap.Refs[git.MainRef]
	for _, cmd := range c.commands {
		if now := snap.Refs[cmd.Ref]; now != cmd.Old && !c.dryRun {
			return nil, errMoved{now}
		}
	}
	before, err := s.treeOf(ctx, s.repo, main)
	if err != nil {
		return nil, err
	}
	now := s.cfg.Now()
	d := &decision{view: view, cluster: s.cfg.Cluster, source: s.cfg.Source, commit: c.commit.Hash.String(), now: now,
		before: before, after: newTree(c.commit.Tree, res), order: res.Manifests}
	want, err := d.decide()
	if err != nil {
		return nil, err
	}
	if len(want.findings) > 0 {
		s.logOf(c).Info("commit refused", "findings", len(want.findings))
		return &outcome{findings: manifests.SortFindings(want.findings)}, nil
	}
	planned := s.cfg.Now()
	if objection := d.guard(want, c); objection != nil {
		s.logOf(c).Info("commit refused", "reason", objection)
		return s.refuse(ctx, c, d, want, main, objection)
	}
	s.logOf(c).Info("commit planned", "create", want.created, "change", want.changed, "delete", len(want.deleted), "after", planned.Sub(c.received))
	req := s.request(c, want, main)
	req.Token = c.token
	req.Ops = append(req.Ops, s.ledger(c, view, d, want, main, validated, planned))
	var out *outcome
	if c.dryRun {
		out, err = s.forecast(ctx, req, d, want)
	} else {
		out, err = s.submit(ctx, c, req, d, want, snap.Packs+1)
	}
	if found, ok := d.mistake(want, err); ok {
		s.logOf(c).Info("commit refused", "findings", 1)
		return &outcome{findings: []manifests.Finding{found}}, nil
	}
	return out, err
}

// request is what a commit asks of the writer, without its row, ref and pack.
func (s *Service) request(c *candidate, want *desired, main git.Hash) sequencer.Request {
	return sequencer.Request{User: c.user, Source: s.cfg.Source, Ops: want.ops, Commit: c.commit.Hash.String(), BaseRef: baseRef(main)}
}

// refuse is the outcome of a commit that a rule objects to: its plan, so that its author sees what he would have done, without a
// token by which it could be applied.
func (s *Service) refuse(ctx context.Context, c *candidate, d *decision, want *desired, main git.Hash, why error) (*outcome, error) {
	out, err := s.forecast(ctx, s.request(c, want, main), d, want)
	if err != nil {
		return nil, err
	}
	out.refused, out.plan.Token = why.Error(), ""
	return out, nil
}

func baseRef(h git.Hash) string {
	if h.IsZero() {
		return ""
	}
	return h.String()
}

func (s *Service) forecast(ctx context.Context, req sequencer.Request, d *decision, want *desired) (*outcome, error) {
	settled, err := s.cfg.Writer.Forecast(ctx, req)
	if err != nil {
		return nil, err
	}
	p, err := s.plan(req, settled, d, want)
	if err != nil {
		return nil, err
	}
	return &outcome{plan: p, nothing: p.Empty()}, nil
}

// submit adds ref and pack to the request and commits it.
func (s *Service) submit(ctx context.Context, c *candidate, req sequencer.Request, d *decision, want *desired, seq uint64) (*outcome, error) {
	if err := s.addGit(ctx, &req, c, seq); err != nil {
		return nil, err
	}
	res, err := s.cfg.Writer.Submit(ctx, req)
	if err != nil {
		return nil, err
	}
	if c.pack != nil {
		c.objects.Committed(seq)
	}
	s.remember(d.after)
	p, err := s.plan(req, res.Outcome, d, want)
	if err != nil {
		// The commit stands; only its words are missing.
		s.logOf(c).Error("make the plan of a commit", "error", err)
		p = &plan.Plan{Warnings: []string{"the plan could not be drawn: " + err.Error()}, Counts: plan.Counts{Create: want.created, Change: want.changed, Delete: len(want.deleted)}}
	}
	s.logOf(c).Info("commit committed", "rev", res.Rev, "after", s.cfg.Now().Sub(c.received))
	return &outcome{plan: p, rev: res.Rev, nothing: p.Empty()}, nil
}

// addGit adds the writes of refs and pack, and stages a large pack.
func (s *Service) addGit(ctx context.Context, req *sequencer.Request, c *candidate, seq uint64) error {
	for _, cmd := range c.commands {
		raw := sequencer.Raw{Key: git.RefKey(cmd.Ref), Check: true}
		if !cmd.Old.IsZero() {
			raw.Expect = []byte(cmd.Old.String())
		}
		if !cmd.New.IsZero() {
			raw.Value = []byte(cmd.New.String())
		}
		req.Raw = append(req.Raw, raw)
	}
	if c.pack == nil {
		return nil
	}
	value := c.pack
	if len(value) > inlinePack {
		digest, err := s.cfg.Writer.StageBlob(ctx, c.pack)
		if err != nil {
			return fmt.Errorf("stage the pack of %d bytes: %w", len(c.pack), err)
		}
		req.Blobs = append(req.Blobs, digest)
		value = []byte(digest)
	}
	req.Raw = append(req.Raw, sequencer.Raw{Key: git.PackKey(seq), Value: value, Check: true})
	return nil
}

// ledger is the write of the commit's row. A row that exists (a commit that comes again) is replaced.
func (s *Service) ledger(c *candidate, view View, d *decision, want *desired, parent git.Hash, validated, planned time.Time) sequencer.Op {
	row := &object.Commit{Spec: object.CommitSpec{
		Source: s.cfg.Source, Ref: git.MainRef, Hash: c.commit.Hash.String(), Parent: baseRef(parent), Author: c.commit.Author, Subject: clip(c.commit.Subject(), 200),
		User: c.user, Token: c.token, Created: want.created, Changed: want.changed, Deleted: len(want.deleted),
		Received: metav1.NewMicroTime(c.received), Validated: metav1.NewMicroTime(validated), Planned: metav1.NewMicroTime(planned),
	}}
	row.Name = row.Spec.Hash
	row.UID = uidOf(d.cluster, d.source, row.Name, "commit")
	row.Status.Phase = object.CommitCommitted
	touched := map[object.Key]bool{}
	for _, op := range want.ops {
		touched[op.Key] = true
	}
	for _, m := range d.order {
		if len(d.order) > maxLedger && !touched[m.Key] {
			continue
		}
		row.Spec.Objects = append(row.Spec.Objects, object.CommitObject{Resource: m.Key.Resource, Namespace: m.Key.Namespace, Name: m.Key.Name,
			File: m.Position.File, Line: m.Position.Line})
	}
	op := sequencer.Op{Verb: sequencer.Create, Key: object.Key{Resource: "commits", Name: row.Name}, Object: row}
	if live, ok := view.Get(op.Key); ok {
		row.UID = live.GetUID()
		op.Verb = sequencer.Update
	}
	return op
}

func clip(text string, n int) string {
	if len(text) > n {
		return text[:n]
	}
	return text
}

// plan makes a plan of what was decided.
func (s *Service) plan(req sequencer.Request, o sequencer.Outcome, d *decision, want *desired) (*plan.Plan, error) {
	in := inputOf(req, o)
	in.Adopted, in.Warnings, in.Extensions = want.adopted, want.warnings, s.cfg.Extensions
	fields := map[object.Key]manifests.Fields{}
	in.Position = func(key object.Key, path string) (string, int) {
		m, ok := d.after.objs[key]
		if !ok {
			return "", 0
		}
		if path == "" {
			return fmt.Sprintf("%s:%d", m.Position.File, m.Position.Line), m.Position.Col
		}
		at, ok := fields[key]
		if !ok {
			at = m.Fields()
			fields[key] = at
		}
		pos, ok := at.Exact(path)
		if !ok {
			return "", 0
		}
		return fmt.Sprintf("%s:%d", pos.File, pos.Line), pos.Col
	}
	return plan.Build(in)
}

func inputOf(req sequencer.Request, o sequencer.Outcome) plan.Input {
	return plan.Input{Commit: req.Commit, BaseRef: req.BaseRef, Source: req.Source, Base: o.Base, After: o.After,
		Requested: o.Requested, Written: o.Written, Outcome: o.Settled}
}

// Token is what sequencer.Config.Token is to be: the token of the plan of what was decided.
func Token(req sequencer.Request, o sequencer.Outcome) string { return plan.Token(inputOf(req, o)) }
