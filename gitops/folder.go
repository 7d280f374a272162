package gitops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"reconcile/manifests/git"
	"reconcile/plan"
)

// Plan answers what would happen if the request's files became the tree of main. It changes nothing.
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

// Apply makes the request's files a commit on main, through the same door as a push. Files that are already the tree of main
// make no commit.
func (s *Service) Apply(ctx context.Context, user string, req PlanRequest) (PlanResponse, error) {
	res, _, err := s.folder(ctx, user, req, false)
	return res, err
}

func (s *Service) folder(ctx context.Context, user string, req PlanRequest, dryRun bool) (PlanResponse, *outcome, error) {
	opts, err := parseOptions(req.Options)
	if err != nil {
		return PlanResponse{Refused: err.Error()}, nil, nil
	}
	c := &candidate{user: user, opts: opts, token: req.Token, received: s.cfg.Now(), dryRun: dryRun || opts.plan}
	s.catchUp(ctx)
	if err := s.makeCommit(ctx, c, req); err != nil {
		return PlanResponse{Refused: err.Error()}, nil, nil
	}
	same := len(c.commands) == 0
	if same {
		c.dryRun = true
	}
	out, err := s.run(ctx, c)
	var stale errMoved
	if errors.As(err, &stale) {
		return PlanResponse{Refused: err.Error()}, nil, nil
	}
	if err != nil {
		return PlanResponse{}, nil, explain(err)
	}
	res := PlanResponse{Findings: out.findings, Changes: !out.nothing && len(out.findings) == 0 && out.refused == nil}
	if out.refused != nil {
		res.Refused = out.refused.Error()
	}
	if len(out.findings) > 0 || out.refused != nil {
		return res, out, nil
	}
	if res.Plan, err = json.Marshal(out.plan); err != nil {
		return res, out, fmt.Errorf("encode the plan: %w", err)
	}
	width := req.Width
	if width <= 0 {
		width = remoteWidth
	}
	res.Text, res.Token = plan.Render(out.plan, width, req.Colour), out.plan.Token
	if !c.dryRun {
		res.Commit = c.commit.Hash.String()
	}
	return res, out, nil
}

// makeCommit turns the files into a commit whose parent is main, in a quarantine. The same files on the same main by the same
// user make the same commit, whenever that is: so the UIDs of a plan are those of its apply.
func (s *Service) makeCommit(ctx context.Context, c *candidate, req PlanRequest) error {
	snap, err := s.repo.Sync(ctx)
	if err != nil {
		return err
	}
	parent := snap.Refs[git.MainRef]
	files := make(map[string][]byte, len(req.Files))
	for _, f := range req.Files {
		if f.Path != path.Clean(f.Path) || strings.HasPrefix(f.Path, "/") || strings.HasPrefix(f.Path, "../") {
			return fmt.Errorf("%q is no path inside the folder", f.Path)
		}
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
