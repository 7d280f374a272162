package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// The services of the smart protocol.
const (
	ReceivePackService = "git-receive-pack"
	UploadPackService  = "git-upload-pack"
)

// MainRef is the ref that deploys; PlanPrefix begins the refs that are answered with a plan and never stored.
const (
	MainRef    = "refs/heads/main"
	PlanPrefix = "refs/plan/"
)

const agent = "agent=reconcile"

// receiveCaps are what receive-pack offers. report-status and atomic are always so, asked for or not.
const receiveCaps = "report-status delete-refs ofs-delta side-band-64k quiet atomic push-options object-format=sha1 " + agent

// uploadCaps are what upload-pack offers.
const uploadCaps = "multi_ack_detailed no-done side-band-64k ofs-delta shallow no-progress include-tag allow-tip-sha1-in-want symref=HEAD:" +
	MainRef + " object-format=sha1 " + agent

// AdvertiseRefs writes the answer to GET info/refs for one of the two services: a list of all refs and capabilities.
func (r *Repository) AdvertiseRefs(ctx context.Context, service string, w io.Writer) error {
	var caps string
	switch service {
	case ReceivePackService:
		caps = receiveCaps
	case UploadPackService:
		caps = uploadCaps
	default:
		return fmt.Errorf("advertise refs: unknown service %q", service)
	}
	snap, err := r.Sync(ctx)
	if err != nil {
		return fmt.Errorf("advertise refs: %w", err)
	}
	out := appendFlush(appendPkt(nil, "# service=%s\n", service))
	names := slices.Sorted(maps.Keys(snap.Refs))
	if h, ok := snap.Refs[MainRef]; ok && service == UploadPackService {
		snap.Refs["HEAD"] = h
		names = slices.Insert(names, 0, "HEAD")
	}
	if len(names) == 0 {
		out = appendPkt(out, "%s capabilities^{}\x00%s\n", Hash{}, caps)
	}
	for i, name := range names {
		tail := ""
		if i == 0 {
			tail = "\x00" + caps
		}
		out = appendPkt(out, "%s %s%s\n", snap.Refs[name], name, tail)
		if o, ok := r.object(snap.Refs[name]); ok && o.kind == plumbing.TagObject && service == UploadPackService {
			if h, err := parseTag(o); err == nil {
				out = appendPkt(out, "%s %s^{}\n", h, name)
			}
		}
	}
	_, err = w.Write(appendFlush(out))
	return err
}

// ReceivePack serves one POST of git-receive-pack: it reads the commands, options and pack, checks them, asks recv, and writes
// the report. An error means that the client could not be answered; a refused push is none. It blocks as long as recv does.
func (r *Repository) ReceivePack(ctx context.Context, in io.Reader, out io.Writer, recv Receiver) error {
	list, err := readCommands(in, r.cfg.Limits)
	if err != nil {
		return r.fail(in, out, list, err)
	}
	if len(list.commands) == 0 {
		return nil
	}
	pack, err := readPack(in, list.commands, r.cfg.Limits.PackBytes)
	if err != nil {
		return r.fail(in, out, list, err)
	}
	a := &answer{band: list.caps.has("side-band-64k"), w: out}
	stop := a.alive()
	push := &Push{Commands: list.commands, Options: list.options, Pack: pack}
	unpackErr, refErr := r.receive(ctx, push, a.remote(), recv)
	stop()
	return report(a, list, unpackErr, refErr)
}

// receive runs a push's checks and the receiver. The first error is about the pack, the second about the commands.
func (r *Repository) receive(ctx context.Context, push *Push, remote io.Writer, recv Receiver) (unpackErr, refErr error) {
	snap, err := r.Sync(ctx)
	if err != nil {
		return nil, err
	}
	for _, o := range push.Options {
		if r.cfg.Options == nil {
			return nil, fmt.Errorf("push option %q is not known", o)
		}
		if err := r.cfg.Options(o); err != nil {
			return nil, err
		}
	}
	q, err := r.Quarantine(push.Pack)
	if err != nil {
		return err, nil
	}
	if err := q.Check(); err != nil {
		return err, nil
	}
	push.Objects = q
	if err := r.checkCommands(push, snap.Refs); err != nil {
		return nil, err
	}
	return nil, recv.Receive(ctx, push, remote)
}

// checkCommands holds the commands against the refs as they are: compare-and-swap on the old hash, no rewinding.
func (r *Repository) checkCommands(push *Push, refs map[string]Hash) error {
	seen := map[string]bool{}
	for _, c := range push.Commands {
		if seen[c.Ref] {
			return fmt.Errorf("%s is named twice", c.Ref)
		}
		seen[c.Ref] = true
		if err := checkPlace(c); err != nil {
			return err
		}
		if !strings.HasPrefix(c.Ref, PlanPrefix) && refs[c.Ref] != c.Old {
			return fmt.Errorf("stale: %s is at %s now; git fetch, rebase and push again", short(c.Ref), abbreviate(refs[c.Ref]))
		}
		if c.New.IsZero() {
			continue
		}
		if err := checkTarget(push.Objects, c, strings.HasPrefix(c.Ref, PlanPrefix)); err != nil {
			return err
		}
	}
	return nil
}

// checkPlace says which refs may be written.
func checkPlace(c Command) error {
	switch {
	case c.New.IsZero() && c.Ref == MainRef:
		return errors.New("main cannot be deleted: it is what runs; push an empty tree to remove everything")
	case strings.HasPrefix(c.Ref, PlanPrefix) && c.New.IsZero():
		return errors.New("refs/plan/* is never stored, so there is nothing to delete")
	case strings.HasPrefix(c.Ref, "refs/heads/"), strings.HasPrefix(c.Ref, "refs/tags/"), strings.HasPrefix(c.Ref, PlanPrefix):
		return nil
	}
	return errors.New("only refs/heads/*, refs/tags/* and refs/plan/* can be pushed")
}

// checkTarget checks what a ref is to point to, and that a branch only goes forward.
func checkTarget(q *Quarantine, c Command, plan bool) error {
	o, ok := q.object(c.New)
	switch {
	case !ok:
		return fmt.Errorf("object %s was not sent", abbreviate(c.New))
	case strings.HasPrefix(c.Ref, "refs/tags/"):
		if !c.Old.IsZero() {
			return fmt.Errorf("tag %s exists and does not move", short(c.Ref))
		}
		return nil
	case o.kind != plumbing.CommitObject:
		return fmt.Errorf("%s is a %s; a branch points to a commit", abbreviate(c.New), o.kind)
	case c.Old.IsZero() || plan || reaches(q.object, c.New, c.Old):
		return nil
	}
	return fmt.Errorf("non-fast-forward: %s is not an ancestor of %s; git pull --rebase and push again", abbreviate(c.Old), abbreviate(c.New))
}

// reaches tells whether old is from itself or one of its ancestors.
func reaches(find lookup, from, old Hash) bool {
	seen := map[Hash]bool{from: true}
	for queue := []Hash{from}; len(queue) > 0; queue = queue[1:] {
		if queue[0] == old {
			return true
		}
		c, err := readCommit(find, queue[0])
		if err != nil {
			continue
		}
		for _, p := range c.Parents {
			if !seen[p] {
				seen[p] = true
				queue = append(queue, p)
			}
		}
	}
	return false
}

// readPack reads the rest of the request. A pack without objects is none, and so is that of a push that only deletes.
func readPack(in io.Reader, commands []Command, limit int64) ([]byte, error) {
	if !slices.ContainsFunc(commands, func(c Command) bool { return !c.New.IsZero() }) {
		return nil, nil
	}
	var buf bytes.Buffer
	n, err := buf.ReadFrom(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read the pack: %w", err)
	}
	if n > limit {
		return nil, fmt.Errorf("the pack is larger than the limit of %d MiB", limit>>20)
	}
	pack := buf.Bytes()
	if len(pack) == 0 || len(pack) >= 12 && bytes.Equal(pack[:12], []byte("PACK\x00\x00\x00\x02\x00\x00\x00\x00")) {
		return nil, nil
	}
	return pack, nil
}

// fail reports an error that came up while the request was read. What is left of the request is read within a bound, so that
// the client gets to reading the answer.
func (r *Repository) fail(in io.Reader, out io.Writer, list commandList, cause error) error {
	if _, err := io.CopyN(io.Discard, in, 4*r.cfg.Limits.PackBytes); err != nil && !errors.Is(err, io.EOF) {
		return cause
	}
	if len(list.commands) == 0 {
		_, err := out.Write(appendPkt(nil, "ERR %s\n", firstLine(cause)))
		return errors.Join(cause, err)
	}
	return report(&answer{band: list.caps.has("side-band-64k"), w: out}, list, cause, nil)
}

// report writes report-status. All commands share one fate.
func report(a *answer, list commandList, unpackErr, refErr error) error {
	var out []byte
	status := "ok"
	reason := ""
	switch {
	case unpackErr != nil:
		status, reason = "ng", " "+firstLine(unpackErr)
		out = appendPkt(out, "unpack %s\n", firstLine(unpackErr))
	case refErr != nil:
		status, reason = "ng", " "+firstLine(refErr)
		fallthrough
	default:
		out = appendPkt(out, "unpack ok\n")
	}
	for _, c := range list.commands {
		out = appendPkt(out, "%s %s%s\n", status, c.Ref, reason)
	}
	if list.caps.has("report-status") || list.caps.has("report-status-v2") {
		if _, err := a.Write(appendFlush(out)); err != nil {
			return fmt.Errorf("report to the client: %w", err)
		}
	}
	return a.end()
}

// firstLine keeps an error to one line that fits behind a ref.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	if len(line) > 900 {
		line = line[:900] + "..."
	}
	return line
}

func short(ref string) string {
	return strings.TrimPrefix(strings.TrimPrefix(ref, "refs/heads/"), "refs/tags/")
}

// abbreviate is a hash as people write it; "nothing" for the zero hash.
func abbreviate(h Hash) string {
	if h.IsZero() {
		return "nothing"
	}
	return h.String()[:7]
}
