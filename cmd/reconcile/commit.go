package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"reconcile/client"
	"reconcile/object"
)

// listCommits returns the ledger, newest first.
func listCommits(ctx context.Context, c *client.Client) ([]*object.Commit, error) {
	items, err := c.List(ctx, object.Selection{Resource: "commits"})
	if err != nil {
		return nil, err
	}
	out := make([]*object.Commit, 0, len(items))
	for _, o := range items {
		if commit, ok := o.(*object.Commit); ok {
			out = append(out, commit)
		}
	}
	slices.SortStableFunc(out, func(a, b *object.Commit) int {
		if n := b.Spec.Received.Time.Compare(a.Spec.Received.Time); n != 0 {
			return n
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out, nil
}

// findCommit finds a commit by its hash, which may be shortened; the empty one is the latest.
func findCommit(ctx context.Context, c *client.Client, hash string) (*object.Commit, error) {
	all, err := listCommits(ctx, c)
	if err != nil {
		return nil, err
	}
	if hash == "" && len(all) > 0 {
		return all[0], nil
	}
	var found []*object.Commit
	for _, commit := range all {
		if strings.HasPrefix(commit.Spec.Hash, hash) || strings.HasPrefix(commit.Name, hash) {
			found = append(found, commit)
		}
	}
	switch {
	case len(all) == 0:
		return nil, errors.New("the cluster has no commit yet: push one with `git push cluster main`")
	case len(found) == 0:
		return nil, fmt.Errorf("the cluster knows no commit %s: `reconcile log` lists those it has; a push that was refused leaves none", hash)
	case len(found) > 1:
		return nil, fmt.Errorf("%s is the beginning of %d commits: give more of it", hash, len(found))
	}
	return found[0], nil
}

// commit prints one commit's way, and each of its objects.
func (s screen) commit(c *object.Commit) error {
	if s.json {
		return writeJSON(s.w, c)
	}
	fmt.Fprintf(s.w, "commit %.12s %s %s\n", c.Spec.Hash, c.Spec.Author, c.Spec.Subject)
	t := tabwriter.NewWriter(s.w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "  received\t%s\n", c.Spec.Received.Local().Format("2006-01-02 15:04:05.000"))
	from := c.Spec.Received.Time
	fmt.Fprintf(t, "  validated\t%s\n  planned\t%s\n", since(from, c.Spec.Validated.Time), since(from, c.Spec.Planned.Time))
	if c.Status.Committed != nil {
		fmt.Fprintf(t, "  committed\t%s\n", since(from, c.Status.Committed.Time))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(s.w, "  %s\n", s.phase(c, 11))
	t = tabwriter.NewWriter(s.w, 0, 8, 2, ' ', 0)
	for _, line := range objectLines(c) {
		fmt.Fprintf(t, "    %s\t%s\t%s\t%s\n", line.Key(), place(line.CommitObject), line.Status, line.Message)
	}
	return t.Flush()
}

// phase is the line that tells where a commit stands, its first word filled up to a width.
func (s screen) phase(c *object.Commit, width int) string {
	out := s.paint(c.Status.Phase) + strings.Repeat(" ", max(0, width-1-len(c.Status.Phase)))
	if c.Status.Healthy != nil {
		out += " " + since(c.Spec.Received.Time, c.Status.Healthy.Time)
	}
	out += fmt.Sprintf(", %d of %d objects current", c.Status.Current, c.Status.Total)
	if c.Status.Message != "" {
		out += ": " + c.Status.Message
	}
	return out
}

// objectLines are all objects of a commit, those that wait first.
func objectLines(c *object.Commit) []object.CommitWaiting {
	out := slices.Clone(c.Status.Waiting)
	if c.Status.Total == 0 && c.Status.Phase == "" {
		return out
	}
	waits := map[object.Key]bool{}
	for _, w := range out {
		waits[w.Key()] = true
	}
	for _, o := range c.Spec.Objects {
		if !waits[o.Key()] {
			out = append(out, object.CommitWaiting{CommitObject: o, Status: "Current"})
		}
	}
	if c.Status.Phase == object.CommitSuperseded || c.Status.Current+len(c.Status.Waiting) != c.Status.Total {
		// Not all that waits is listed, or nobody looks any more: what is not listed is not known.
		for i := len(c.Status.Waiting); i < len(out); i++ {
			out[i].Status = "-"
		}
	}
	return out
}

func place(o object.CommitObject) string {
	if o.File == "" {
		return "-"
	}
	return fmt.Sprintf("%s:%d", o.File, o.Line)
}

// following hands the states of one commit on, the newest of them if the reader is slow.
type following struct{ states chan *object.Commit }

func (f following) Replace(all []object.Object) {
	for _, o := range all {
		f.Upsert(o)
	}
}

func (f following) Upsert(o object.Object) {
	c, ok := o.(*object.Commit)
	if !ok {
		return
	}
	select {
	case <-f.states:
	default:
	}
	f.states <- c
}

func (f following) Remove(object.Key) {}

// watchCommit prints each state of a commit until it is healthy (nil) or has failed (an error).
func watchCommit(ctx context.Context, c *client.Client, commit *object.Commit, out screen) error {
	ctx, cancel := context.WithCancel(ctx)
	f := following{make(chan *object.Commit, 1)}
	failed, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		failed <- c.Follow(ctx, object.Selection{Resource: "commits", FieldSelector: "metadata.name=" + commit.Name}, f)
	}()
	defer func() {
		cancel()
		<-ended
	}()
	last := ""
	for {
		select {
		case err := <-failed:
			return err
		case now := <-f.states:
			if end, err := out.progress(now, &last); end || err != nil {
				return err
			}
		}
	}
}

// progress prints a state if it tells something new, and says whether it is the last.
func (s screen) progress(c *object.Commit, last *string) (end bool, err error) {
	line := s.phase(c, 0)
	if line != *last {
		*last = line
		if s.json {
			if err := json.NewEncoder(s.w).Encode(c); err != nil {
				return true, err
			}
		} else if _, err := fmt.Fprintf(s.w, "%.12s %s\n", c.Spec.Hash, line); err != nil {
			return true, err
		}
	}
	switch c.Status.Phase {
	case object.CommitHealthy:
		return true, nil
	case object.CommitFailed, object.CommitRolledBack, object.CommitSuperseded:
		return true, fmt.Errorf("commit %.12s is %s: %s", c.Spec.Hash, c.Status.Phase, c.Status.Message)
	}
	return false, nil
}
