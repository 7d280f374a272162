package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
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

// findCommit finds a commit by its hash, which may be shortened, or by the name of the branch that it is the tip of, or as HEAD, each with git's ~N or ^
// behind it for an ancestor; the empty name is the latest.
func findCommit(ctx context.Context, c *client.Client, name string) (*object.Commit, error) {
	all, err := listCommits(ctx, c)
	if err != nil {
		return nil, err
	}
	hash, back, err := ancestor(name)
	if err != nil {
		return nil, err
	}
	found, err := oneCommit(all, hash)
	for ; err == nil && back > 0; back-- {
		parent := found.Spec.Parent
		if parent == "" {
			return nil, fmt.Errorf("%s: commit %.12s has no parent", name, found.Spec.Hash)
		}
		if found, err = oneCommit(all, parent); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
	}
	return found, err
}

// ancestor cuts git's ~N and ^ off a name, and says how many commits back they lead.
func ancestor(name string) (base string, back int, err error) {
	base = name
	if i := strings.IndexAny(name, "~^"); i >= 0 {
		base = name[:i]
	}
	for rest := name[len(base):]; rest != ""; {
		n, digits := 1, 1
		for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
			digits++
		}
		if digits > 1 {
			n, err = strconv.Atoi(rest[1:digits])
		}
		if err != nil || rest[0] == '^' && n > 1 || rest[0] != '~' && rest[0] != '^' {
			return "", 0, fmt.Errorf("%q: want a hash, a branch or HEAD, with ~N or ^ for an ancestor (the ledger knows first parents only)", name)
		}
		back, rest = back+n, rest[digits:]
	}
	return base, back, nil
}

// oneCommit finds a commit of the ledger, which is sorted, by hash, branch or HEAD.
func oneCommit(all []*object.Commit, hash string) (*object.Commit, error) {
	for _, commit := range all { // the newest first: the tip
		if hash == "" || hash == "HEAD" || commit.Spec.Ref == hash || commit.Spec.Ref == "refs/heads/"+hash {
			return commit, nil
		}
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
	if e := c.Status.Entry; e != nil {
		fmt.Fprintf(t, "  revisions\t%s\n  entry\tindex %d of raft's log, term %d\n", span(e.FirstRevision, e.LastRevision), e.RaftIndex, e.RaftTerm)
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

// span is the words for a block of revisions.
func span(first, last uint64) string {
	if first == last {
		return strconv.FormatUint(first, 10)
	}
	return fmt.Sprintf("%d to %d", first, last)
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
