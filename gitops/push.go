package gitops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/manifests"
	"reconcile/manifests/git"
	"reconcile/object"
	"reconcile/plan"
	"reconcile/sequencer"
)

// remoteWidth is how wide the words of a push are drawn: git puts "remote: " in front.
const remoteWidth = 100

// AdvertiseRefs serves GET info/refs.
func (s *Service) AdvertiseRefs(ctx context.Context, service string, w io.Writer) error {
	s.catchUp(ctx)
	return s.repo.AdvertiseRefs(ctx, service, w)
}

// UploadPack serves POST git-upload-pack.
func (s *Service) UploadPack(ctx context.Context, r io.Reader, w io.Writer) error {
	return s.repo.UploadPack(ctx, r, w)
}

// ReceivePack serves POST git-receive-pack: a push by user.
func (s *Service) ReceivePack(ctx context.Context, user string, r io.Reader, w io.Writer) error {
	received := s.cfg.Now()
	s.catchUp(ctx)
	return s.repo.ReceivePack(ctx, r, w, &receiver{service: s, user: user, received: received})
}

// receiver is one push.
type receiver struct {
	service  *Service
	user     string
	received time.Time
}

// Receive implements git.Receiver.
func (r *receiver) Receive(ctx context.Context, p *git.Push, remote io.Writer) error {
	opts, err := parseOptions(p.Options)
	if err != nil {
		return err
	}
	c := &candidate{objects: p.Objects, pack: p.Pack, commands: p.Commands, user: r.user, opts: opts, received: r.received}
	deploys, err := target(p.Commands)
	if err != nil {
		return err
	}
	if deploys == nil {
		return r.service.store(ctx, c, remote)
	}
	if c.commit, err = p.Objects.Commit(deploys.New); err != nil {
		return err
	}
	preview := strings.HasPrefix(deploys.Ref, git.PlanPrefix)
	c.dryRun = preview || opts.plan
	out, err := r.service.run(ctx, c)
	if err != nil {
		return explain(err)
	}
	if err := r.service.answer(remote, out); err != nil {
		return err
	}
	switch {
	case preview:
		fmt.Fprintln(remote, "This is a preview: nothing was changed.")
		return nil
	case opts.plan:
		return errors.New("plan only (-o plan): nothing was changed")
	}
	fmt.Fprintf(remote, "Committed %.7s at revision %d.\n", c.commit.Hash, out.rev)
	if opts.wait > 0 {
		return r.service.wait(ctx, c.commit.Hash.String(), opts.wait, remote)
	}
	return nil
}

// target finds the command that deploys or asks for a plan; nil if only other refs are pushed.
func target(commands []git.Command) (*git.Command, error) {
	var found *git.Command
	for i, c := range commands {
		isPlan := strings.HasPrefix(c.Ref, git.PlanPrefix)
		if isPlan && len(commands) > 1 {
			return nil, errors.New("push refs/plan/* alone: a preview and a change cannot be one push")
		}
		if isPlan || c.Ref == git.MainRef {
			found = &commands[i]
		}
	}
	return found, nil
}

// store commits refs that do not deploy.
func (s *Service) store(ctx context.Context, c *candidate, remote io.Writer) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	for round := 1; ; round++ {
		snap, err := s.repo.Sync(ctx)
		if err != nil {
			return err
		}
		for _, cmd := range c.commands {
			if snap.Refs[cmd.Ref] != cmd.Old {
				return fmt.Errorf("stale: %s has moved; git fetch and push again", cmd.Ref)
			}
		}
		req := sequencer.Request{User: c.user, Source: s.cfg.Source}
		if err := s.addGit(ctx, &req, c, snap.Packs+1); err != nil {
			return err
		}
		_, err = s.cfg.Writer.Submit(ctx, req)
		if errors.Is(err, sequencer.ErrStale) && round < rounds {
			continue
		}
		if err != nil {
			return explain(err)
		}
		if c.pack != nil {
			c.objects.Committed(snap.Packs + 1)
		}
		if slices.ContainsFunc(c.commands, func(cmd git.Command) bool { return !cmd.New.IsZero() }) {
			fmt.Fprintln(remote, "Stored. Only main deploys; git push REMOTE HEAD:refs/plan/main shows what would happen.")
		} else {
			fmt.Fprintln(remote, "Deleted. Nothing that runs was changed.")
		}
		return nil
	}
}

// answer prints what became of a commit: its findings or its plan. It returns the reason of a refusal.
func (s *Service) answer(remote io.Writer, out *outcome) error {
	if n := len(out.findings); n > 0 {
		fmt.Fprint(remote, findingsText(out.findings))
		return fmt.Errorf("%d %s; nothing was changed", n, plural(n, "mistake"))
	}
	if out.refused != "" {
		fmt.Fprintf(remote, "%s\n%s\n", plan.Render(out.plan, remoteWidth, false), out.refused)
		return errors.New("refused by the prune guard; nothing was changed")
	}
	if out.nothing {
		fmt.Fprintln(remote, "Nothing to do: the cluster is as this commit says.")
		return nil
	}
	_, err := io.WriteString(remote, plan.Render(out.plan, remoteWidth, false))
	return err
}

func findingsText(findings []manifests.Finding) string {
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintln(&b, f)
	}
	return b.String()
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// explain turns an error of the writer into what a person behind a push can use.
func explain(err error) error {
	switch {
	case errors.Is(err, sequencer.ErrPlanChanged):
		return fmt.Errorf("the plan has changed since it was made; plan again (%w)", err)
	case apierrors.IsTimeout(err):
		return fmt.Errorf("the outcome is not known: git fetch tells whether the commit was taken (%w)", err)
	case apierrors.IsServiceUnavailable(err), apierrors.IsServerTimeout(err), apierrors.IsTooManyRequests(err):
		return fmt.Errorf("no server could take it now, nothing was changed; push again (%w)", err)
	}
	return err
}

// pollEvery is how often a waiting push looks at the ledger.
const pollEvery = 100 * time.Millisecond

// wait follows the commit's row until it is healthy. A commit that fails or takes too long is committed all the same: the
// words say so, and the push succeeds.
func (s *Service) wait(ctx context.Context, commit string, limit time.Duration, remote io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	said := ""
	for {
		if o, ok := s.cfg.State.View().Get(object.Key{Resource: "commits", Name: commit}); ok {
			st := o.(*object.Commit).Status
			text := fmt.Sprintf("%s: %d of %d objects current", st.Phase, st.Current, st.Total)
			if st.Message != "" {
				text += "; " + st.Message
			}
			if text != said {
				fmt.Fprintln(remote, text)
				said = text
			}
			if st.Phase != object.CommitCommitted && st.Phase != object.CommitProgressing && st.Phase != "" {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			fmt.Fprintf(remote, "Not healthy after %v; `reconcile status %.7s` tells more.\n", limit, commit)
			return nil
		case <-tick.C:
		}
	}
}
