package sequencer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/object"
	"reconcile/raftstore"
)

// message is what a follower sends to the leader; one of the fields is set. Objects travel in their stored encoding.
type message struct {
	Submit *wireRequest `json:"submit,omitempty"`
	Stage  []byte       `json:"stage,omitempty"`
	// Read asks for a read index, Voice is that of the server that asks.
	Read  bool            `json:"read,omitempty"`
	Voice raftstore.Voice `json:"voice,omitzero"`
	// Leases asks to renew leases, and what they have left.
	Leases *raftstore.LeaseCall `json:"leases,omitempty"`
}

type wireRequest struct {
	User    string   `json:"user,omitempty"`
	Source  string   `json:"source,omitempty"`
	Ops     []wireOp `json:"ops,omitempty"`
	Raw     []Raw    `json:"raw,omitempty"`
	Blobs   []string `json:"blobs,omitempty"`
	Token   string   `json:"token,omitempty"`
	Commit  string   `json:"commit,omitempty"`
	BaseRef string   `json:"baseRef,omitempty"`
	DryRun  bool     `json:"dryRun,omitempty"`
}

type wireOp struct {
	Verb               Verb       `json:"verb"`
	Key                object.Key `json:"key"`
	Object             []byte     `json:"object,omitempty"`
	UID                string     `json:"uid,omitempty"`
	ResourceVersion    string     `json:"resourceVersion,omitempty"`
	GracePeriodSeconds *int64     `json:"gracePeriodSeconds,omitempty"`
	PropagationPolicy  string     `json:"propagationPolicy,omitempty"`
	Subresource        string     `json:"subresource,omitempty"`
}

// reply is the leader's answer.
type reply struct {
	Error  *wireError  `json:"error,omitempty"`
	Result *wireResult `json:"result,omitempty"`
	Digest string      `json:"digest,omitempty"`
	Rev    uint64      `json:"rev,omitempty"`
	// Index is that of a read point.
	Index  uint64                `json:"index,omitempty"`
	Term   uint64                `json:"term,omitempty"`
	Leases *raftstore.LeaseReply `json:"leases,omitempty"`
}

type wireResult struct {
	Objects   [][]byte           `json:"objects"`
	Requested []wireChange       `json:"requested,omitempty"`
	Written   []wireChange       `json:"written,omitempty"`
	Settled   controller.Outcome `json:"settled"`
}

type wireChange struct {
	Key object.Key `json:"key"`
	Old []byte     `json:"old,omitempty"`
	New []byte     `json:"new,omitempty"`
}

// wireError is an error by which callers can tell what happened: a Status, or one of our sentinels by name.
type wireError struct {
	Status *metav1.Status `json:"status,omitempty"`
	Name   string         `json:"name,omitempty"`
	Text   string         `json:"text"`
}

// sentinels are the errors that pass a connection by name.
func sentinels() map[string]error {
	return map[string]error{
		"stale": ErrStale, "planChanged": ErrPlanChanged, "again": errAgain, "notLeader": raftstore.ErrNotLeader,
		"unknown": raftstore.ErrUnknown, "tooLarge": raftstore.ErrTooLarge, "noSpace": raftstore.ErrNoSpace,
	}
}

func wireErrorOf(err error) *wireError {
	if err == nil {
		return nil
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		st := status.Status()
		return &wireError{Status: &st, Text: err.Error()}
	}
	for name, s := range sentinels() {
		if errors.Is(err, s) {
			return &wireError{Name: name, Text: err.Error()}
		}
	}
	return &wireError{Text: err.Error()}
}

func (e *wireError) err() error {
	switch s, known := sentinels()[e.Name]; {
	case e.Status != nil:
		return &apierrors.StatusError{ErrStatus: *e.Status}
	case known:
		return fmt.Errorf("%w (the leader says: %s)", s, e.Text)
	}
	return errors.New(e.Text)
}

// Serve answers a message that a follower's Forwarder brought. It blocks until the answer is known; what it returns is for the
// Forwarder to carry back. The caller must have made sure that the message comes from a server of the cluster.
func (s *Sequencer) Serve(ctx context.Context, body []byte) ([]byte, error) {
	if len(body) > 0 && body[0] == txnFrame {
		return s.serveTxns(ctx, body)
	}
	ctx, cancel := context.WithTimeout(ctx, served(messageTimeout))
	defer cancel()
	var m message
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, fmt.Errorf("read a forwarded message: %w", err)
	}
	r, err := s.serve(ctx, &m)
	if err != nil {
		r = reply{Error: wireErrorOf(err)}
	}
	return json.Marshal(r)
}

func (s *Sequencer) serve(ctx context.Context, m *message) (reply, error) {
	l := s.store.Leader()
	if !l.Self {
		return reply{}, errAgain
	}
	switch {
	case m.Submit != nil:
		req, err := m.Submit.request()
		if err != nil {
			return reply{}, apierrors.NewBadRequest(err.Error())
		}
		res, err := s.submitHere(ctx, &req)
		if err != nil {
			return reply{}, err
		}
		w, err := wireResultOf(res)
		return reply{Result: w, Rev: res.Rev}, err
	case m.Stage != nil:
		digest, err := s.stageHere(ctx, m.Stage)
		return reply{Digest: digest}, again(err)
	case m.Read:
		p, err := s.store.ReadPoint(ctx, m.Voice)
		return reply{Rev: p.Rev, Index: p.Index, Term: l.Term}, again(err)
	case m.Leases != nil:
		out, err := s.store.Lessor().Serve(ctx, *m.Leases)
		return reply{Leases: &out}, again(err)
	}
	return reply{}, apierrors.NewBadRequest("the forwarded message is empty")
}

// deposedGrace is how long an answer of a server that no longer leads is awaited: it knows best what became of the request, if it
// still lives.
const deposedGrace = 3 * time.Second

// whileLeading is ctx, ended after a time, or when the server l has been followed by another leader and had deposedGrace to answer: the
// connection to a machine that lost its power breaks many minutes later only. stop must be called.
func (s *Sequencer) whileLeading(ctx context.Context, l raftstore.Leader, most time.Duration) (reach context.Context, stop func()) {
	reach, cancel := context.WithTimeout(ctx, most)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			changed := s.store.LeaderChanged()
			if now := s.store.Leader(); now.ID != "" && now.ID != l.ID {
				break
			}
			select {
			case <-changed:
			case <-reach.Done():
				return
			}
		}
		select {
		case <-time.After(deposedGrace):
			cancel()
		case <-reach.Done():
		}
	})
	return reach, func() {
		cancel()
		wg.Wait()
	}
}

// send carries a message to the leader. A message that did not arrive is errAgain.
func (s *Sequencer) send(ctx context.Context, l raftstore.Leader, m message) (reply, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return reply{}, fmt.Errorf("write a message to the leader: %w", err)
	}
	reach, stop := s.whileLeading(ctx, l, messageTimeout)
	defer stop()
	answer, err := s.cfg.Forwarder.Forward(reach, l, body)
	switch {
	case (m.Read || m.Leases != nil) && err != nil && ctx.Err() == nil:
		return reply{}, fmt.Errorf("%w: %w", errAgain, err) // a question may be asked again
	case errors.Is(err, raftstore.ErrUnknown):
		return reply{}, unknownOutcome(err)
	case err != nil:
		return reply{}, fmt.Errorf("%w: %w", errAgain, err)
	}
	var r reply
	if err := json.Unmarshal(answer, &r); err != nil {
		return reply{}, unknownOutcome(fmt.Errorf("read the leader's answer: %w", err))
	}
	if r.Error != nil {
		return reply{}, r.Error.err()
	}
	return r, nil
}

func (s *Sequencer) submitThere(ctx context.Context, l raftstore.Leader, req *Request) (Result, error) {
	w, err := wireRequestOf(req)
	if err != nil {
		return Result{}, apierrors.NewBadRequest(err.Error())
	}
	r, err := s.send(ctx, l, message{Submit: w})
	if err != nil {
		return Result{}, err
	}
	if r.Result == nil {
		return Result{}, unknownOutcome(errors.New("the leader's answer is empty"))
	}
	if !req.DryRun {
		// The write is committed whatever happens here; the caller's next read on this server should see it.
		if err := s.store.WaitRev(ctx, r.Rev); err != nil {
			s.cfg.Logger.Debug("this server does not show a committed write yet", "revision", r.Rev, "error", err)
		}
	}
	return r.Result.result(r.Rev, s.stateAt(r.Rev))
}

// stateAt is this server's state as it was at revision rev: the present one with all later changes taken back. Where the history
// does not reach so far, or this server has not come so far, it is the present one.
func (s *Sequencer) stateAt(rev uint64) cluster.Reader {
	v := s.store.View()
	now := cluster.NewView(v)
	if v.Rev() <= rev {
		return now
	}
	then := cluster.NewOverlay(now)
	if err := s.takeBack(then, rev, v.Rev()); err != nil {
		s.cfg.Logger.Debug("a write's outcome is shown on a later state", "revision", rev, "error", err)
		return now
	}
	return then
}

// takeBack writes to the overlay what every object was at revision from that has changed until revision to.
func (s *Sequencer) takeBack(o *cluster.Overlay, from, to uint64) error {
	w, err := s.store.Watch("/", from)
	if err != nil {
		return err
	}
	taken := map[object.Key]bool{}
	for {
		events, _, err := w.Poll()
		if err != nil || len(events) == 0 {
			return err
		}
		for _, e := range events {
			key, none := object.ParsePath(e.Key)
			if e.Rev > to || none != nil || taken[key] {
				continue // of several changes of an object the first one knows what it was
			}
			if e.PrevLost() {
				return fmt.Errorf("what %s was before revision %d: %w", key, e.Rev, raftstore.ErrCompacted)
			}
			taken[key] = true
			var was object.Object
			if e.Prev != nil {
				was, _ = cluster.Object(e.Prev)
			}
			o.Apply([]cluster.Change{{Key: key, New: was}})
		}
	}
}

func (s *Sequencer) stageThere(ctx context.Context, l raftstore.Leader, body []byte) (string, error) {
	r, err := s.send(ctx, l, message{Stage: body})
	return r.Digest, err
}

// readThere asks the leader how far this server must have come to be read, and for the term in which that was confirmed.
func (s *Sequencer) readThere(ctx context.Context, l raftstore.Leader) (p raftstore.ReadPoint, term uint64, err error) {
	r, err := s.send(ctx, l, message{Read: true, Voice: s.store.Voice()})
	return raftstore.ReadPoint{Rev: r.Rev, Index: r.Index}, r.Term, err
}

func wireRequestOf(req *Request) (*wireRequest, error) {
	w := &wireRequest{User: req.User, Source: req.Source, Raw: req.Raw, Blobs: req.Blobs, Token: req.Token, Commit: req.Commit, BaseRef: req.BaseRef, DryRun: req.DryRun}
	for _, op := range req.Ops {
		body, err := encodeMaybe(op.Object)
		if err != nil {
			return nil, err
		}
		w.Ops = append(w.Ops, wireOp{Verb: op.Verb, Key: op.Key, Object: body, UID: op.UID, ResourceVersion: op.ResourceVersion,
			GracePeriodSeconds: op.GracePeriodSeconds, PropagationPolicy: op.PropagationPolicy, Subresource: op.Subresource})
	}
	return w, nil
}

func (w *wireRequest) request() (Request, error) {
	req := Request{User: w.User, Source: w.Source, Raw: w.Raw, Blobs: w.Blobs, Token: w.Token, Commit: w.Commit, BaseRef: w.BaseRef, DryRun: w.DryRun}
	for _, op := range w.Ops {
		o, err := decodeMaybe(op.Object)
		if err != nil {
			return Request{}, err
		}
		req.Ops = append(req.Ops, Op{Verb: op.Verb, Key: op.Key, Object: o, UID: op.UID, ResourceVersion: op.ResourceVersion,
			GracePeriodSeconds: op.GracePeriodSeconds, PropagationPolicy: op.PropagationPolicy, Subresource: op.Subresource})
	}
	return req, nil
}

func wireResultOf(res Result) (*wireResult, error) {
	w := &wireResult{Settled: res.Outcome.Settled}
	for _, o := range res.Objects {
		body, err := encodeMaybe(o)
		if err != nil {
			return nil, err
		}
		w.Objects = append(w.Objects, body)
	}
	var err error
	if w.Requested, err = wireChanges(res.Outcome.Requested); err != nil {
		return nil, err
	}
	w.Written, err = wireChanges(res.Outcome.Written)
	return w, err
}

// result reads an answer. Its Base is made by taking the changes back from this server's state, its After by making them.
func (w *wireResult) result(rev uint64, now cluster.Reader) (Result, error) {
	res := Result{Rev: rev, Outcome: Outcome{Settled: w.Settled}}
	for _, b := range w.Objects {
		o, err := decodeMaybe(b)
		if err != nil {
			return Result{}, unknownOutcome(err)
		}
		res.Objects = append(res.Objects, o)
	}
	var err error
	if res.Outcome.Requested, err = changesOf(w.Requested); err != nil {
		return Result{}, unknownOutcome(err)
	}
	if res.Outcome.Written, err = changesOf(w.Written); err != nil {
		return Result{}, unknownOutcome(err)
	}
	before, after := cluster.NewOverlay(now), cluster.NewOverlay(now)
	for _, c := range res.Outcome.Written {
		before.Apply([]cluster.Change{{Key: c.Key, New: c.Old}})
		after.Apply([]cluster.Change{{Key: c.Key, New: c.New}})
	}
	res.Outcome.Base, res.Outcome.After = before, after
	return res, nil
}

func wireChanges(list []controller.Change) ([]wireChange, error) {
	out := make([]wireChange, 0, len(list))
	for _, c := range list {
		older, err := encodeMaybe(c.Old)
		if err != nil {
			return nil, err
		}
		newer, err := encodeMaybe(c.New)
		if err != nil {
			return nil, err
		}
		out = append(out, wireChange{Key: c.Key, Old: older, New: newer})
	}
	return out, nil
}

func changesOf(list []wireChange) ([]controller.Change, error) {
	out := make([]controller.Change, 0, len(list))
	for _, c := range list {
		older, err := decodeMaybe(c.Old)
		if err != nil {
			return nil, err
		}
		newer, err := decodeMaybe(c.New)
		if err != nil {
			return nil, err
		}
		out = append(out, controller.Change{Key: c.Key, Old: older, New: newer})
	}
	return out, nil
}

func encodeMaybe(o object.Object) ([]byte, error) {
	if o == nil {
		return nil, nil
	}
	return object.Encode(o)
}

func decodeMaybe(b []byte) (object.Object, error) {
	if len(b) == 0 {
		return nil, nil
	}
	return object.Decode(b)
}
