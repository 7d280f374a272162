package gitops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"reconcile/manifests/git"
	"reconcile/plan"
	"reconcile/sequencer"
)

// Plan answers what would happen if the request's files became the tree of main, or its commit main. It changes nothing.
func (s *Service) Plan(ctx context.Context, user string, req PlanRequest) (PlanResponse, error) {
	res, _, err := s.folder(ctx, user, req, true)
	return res, err
}

// Diff is Plan with the changed fields drawn in the manner of diff -u.
func (s *Service) Diff(ctx context.Context, user string, req PlanRequest) (PlanResponse, error) {
	res, out, err := s.folder(ctx, user, req, true)
	if err == nil && out != nil && res.Changes {
		res.Diff = plan.RenderDiff(out.plan, req.Colour)
	}
	return res, err
}

// Apply makes the request's files a commit on main, or main the request's commit, through the same door as a push. Files that are already
// the tree of main make no commit.
func (s *Service) Apply(ctx context.Context, user string, req PlanRequest) (PlanResponse, error) {
	res, _, err := s.folder(ctx, user, req, false)
	return res, err
}

func (s *Service) folder(ctx context.Context, user string, req PlanRequest, dryRun bool) (PlanResponse, *outcome, error) {
	opts, err := parseOptions(req.Options)
	if err = errors.Join(err, checkRequest(req)); err != nil {
		return refusedPlan(err), nil, nil
	}
	c := &candidate{user: user, opts: opts, token: req.Token, received: s.cfg.Now(), dryRun: dryRun || opts.plan, way: "say --option"}
	s.catchUp(ctx)
	snap, err := s.repo.Sync(ctx)
	if err != nil {
		return PlanResponse{}, nil, err
	}
	answer, note, err := s.take(c, req, snap.Refs[git.MainRef])
	if err != nil {
		return refusedPlan(err), nil, nil
	}
	if answer != nil {
		return *answer, nil, nil
	}
	same := len(c.commands) == 0
	if same {
		c.dryRun = true
	}
	out, err := s.run(ctx, c)
	var stale errMoved
	if errors.As(err, &stale) {
		return refusedPlan(stale), nil, nil
	}
	if errors.Is(err, sequencer.ErrPlanChanged) {
		return refusedPlan(errors.New("the cluster or the folder is not as it was when the plan was made; nothing was changed, plan again")), nil, nil
	}
	if err != nil {
		return PlanResponse{}, nil, explain(err)
	}
	if len(out.findings) > 0 {
		return PlanResponse{Findings: out.findings}, out, nil
	}
	res := PlanResponse{Changes: !out.nothing, Note: note, Refused: out.refused}
	if c.dryRun && req.Commit == "" && len(out.plan.Placements) > 0 {
		res.Note = notOfAPush
	}
	encoded, err := json.Marshal(out.plan)
	if err != nil {
		return res, out, fmt.Errorf("encode the plan: %w", err)
	}
	res.Plan = encoded
	width := req.Width
	if width <= 0 {
		width = remoteWidth
	}
	res.Text, res.Token = plan.Render(out.plan, width, req.Colour), out.plan.Token
	if !c.dryRun && out.refused == "" {
		res.Commit = c.commit.Hash.String()
	}
	return res, out, nil
}

// take makes the candidate of a request: the commit that it names, or one of its files. See takeCommit.
func (s *Service) take(c *candidate, req PlanRequest, main git.Hash) (*PlanResponse, string, error) {
	if req.Commit != "" {
		return s.takeCommit(c, req, main)
	}
	return nil, "", s.makeCommit(c, req, main)
}

// refusedPlan is the answer to a request that a rule refuses.
func refusedPlan(why error) PlanResponse { return PlanResponse{Refused: why.Error()} }

// checkPaths refuses names that are no place inside a folder, or none that git can hold.
func checkPaths(files []File) error {
	var errs []error
	for _, f := range files {
		if !fs.ValidPath(f.Path) || f.Path == "." || strings.ContainsRune(f.Path, 0) {
			errs = append(errs, fmt.Errorf("%q is no path inside the folder", f.Path))
		}
	}
	return errors.Join(errs...)
}

// makeCommit turns the files into a commit on parent, which is main, in a quarantine. The same files on the same main by the same
// user make the same commit, whenever that is: so the UIDs of a plan are those of its apply.
func (s *Service) makeCommit(c *candidate, req PlanRequest, parent git.Hash) (err error) {
	files := make(map[string][]byte, len(req.Files))
	for _, f := range req.Files {
		files[f.Path] = f.Data
	}
	at := time.Unix(0, 0)
	if !parent.IsZero() {
		before, err := s.repo.Commit(parent)
		if err != nil {
			return err
		}
		at = before.When.Add(time.Second)
	}
	message := req.Message
	if message == "" {
		message = "reconcile apply"
	}
	if c.objects, err = s.repo.Quarantine(nil); err != nil {
		return err
	}
	hash, err := c.objects.NewCommit(parent, files, c.user+" <"+c.user+">", message, at)
	if err != nil {
		return err
	}
	if c.commit, err = c.objects.Commit(hash); err != nil {
		return err
	}
	if !parent.IsZero() {
		before, err := s.repo.Commit(parent)
		if err != nil {
			return err
		}
		if before.Tree == c.commit.Tree {
			return nil
		}
	}
	c.commands = []git.Command{{Ref: git.MainRef, Old: parent, New: hash}}
	c.pack, err = c.objects.Pack()
	return err
}
