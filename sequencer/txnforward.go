package sequencer

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/raftstore"
)

// A follower sends all transactions that wait as one frame:
//
//	'T' | count uvarint | count * ( length uvarint | transaction )
//
// and the leader answers with one answer each, in the same order:
//
//	'T' | count uvarint | count * ( code u8 | length uvarint | the answer, or the error (codes) )
const txnFrame = 'T'

// The codes of a frame's answers.
const (
	codeAnswer byte = iota
	codeAgain
	codeUnknown
	codeTooMany
	// codeRefused is a BadRequest's text, as servers of before codeError send it.
	codeRefused
	// codeError is any other error, as wireError carries it: a follower's client hears what the leader's does.
	codeError
)

// frameBytes bounds the transactions of a frame, frames how many are on their way at once: one would make every transaction wait for
// those before it, many would keep the frames small.
const (
	frameBytes = 1 << 20
	frames     = 2
)

// frameTimeout is how long the answer to a frame is waited for, messageTimeout that to any other message: a leader may hang that goes on leading.
// The leader answers a little earlier, for it alone knows what has not begun.
const (
	frameTimeout   = 10 * time.Second
	messageTimeout = time.Minute
)

// served is how long the leader takes for an answer that a follower waits for.
func served(timeout time.Duration) time.Duration { return timeout * 4 / 5 }

// forwardTxns sends the transactions that wait on this server to the leader, until ctx ends.
func (s *Sequencer) forwardTxns(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for range frames {
		wg.Go(func() {
			for {
				select {
				case <-s.remote.ready:
					s.forwardFrame(ctx)
				case <-ctx.Done():
					return
				}
			}
		})
	}
}

// forwardFrame sends one frame of what waits.
func (s *Sequencer) forwardFrame(ctx context.Context) {
	runtime.Gosched() // lets in those that are about to wait: fewer frames are less work
	var jobs []*txnJob
	for _, j := range s.remote.take(maxTxns, frameBytes) {
		if j.take() {
			jobs = append(jobs, j)
		}
	}
	if len(jobs) == 0 {
		return
	}
	l := s.store.Leader()
	if l.Self || l.ID == "" {
		group{txns: jobs}.fail(errAgain)
		return
	}
	s.sendFrame(ctx, l, jobs)
}

// sendFrame sends transactions to the leader and gives out its answers.
func (s *Sequencer) sendFrame(ctx context.Context, l raftstore.Leader, jobs []*txnJob) {
	failAll := group{txns: jobs}.fail
	body := []byte{txnFrame}
	body = binary.AppendUvarint(body, uint64(len(jobs)))
	for _, j := range jobs {
		body = appendSized(body, j.txn)
	}
	reach, stop := s.whileLeading(ctx, l, frameTimeout)
	defer stop()
	answer, err := s.cfg.Forwarder.Forward(reach, l, body)
	switch {
	case errors.Is(err, raftstore.ErrUnknown):
		failAll(unknownOutcome(err))
		return
	case err != nil:
		failAll(fmt.Errorf("%w: %w", errAgain, err))
		return
	}
	if err := s.readAnswers(answer, jobs); err != nil {
		for _, j := range jobs {
			select {
			case j.done <- txnAnswer{err: unknownOutcome(err)}:
			default: // answered before the fault
			}
		}
	}
}

// appendSized appends a value's encoding behind its length.
func appendSized(b []byte, v interface{ AppendTo([]byte) []byte }) []byte {
	const room = 4 // a length of four groups of seven bits, however small it is: it is known afterwards only
	at := len(b)
	b = v.AppendTo(append(b, 0, 0, 0, 0))
	n := len(b) - at - room
	b[at], b[at+1], b[at+2], b[at+3] = byte(n)|0x80, byte(n>>7)|0x80, byte(n>>14)|0x80, byte(n>>21)&0x7f
	return b
}

// cutSized takes a length and as many bytes off b.
func cutSized(b []byte) (head, rest []byte, err error) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, nil, errors.New("the frame is cut short")
	}
	return b[w : w+int(n) : w+int(n)], b[w+int(n):], nil
}

// cutCount reads a frame's head.
func cutCount(b []byte) (count int, rest []byte, err error) {
	if len(b) == 0 || b[0] != txnFrame {
		return 0, nil, errors.New("it is no frame of transactions")
	}
	n, w := binary.Uvarint(b[1:])
	if w <= 0 || n > uint64(len(b)) {
		return 0, nil, errors.New("the frame is cut short")
	}
	return int(n), b[1+w:], nil
}

// readAnswers gives each job its answer.
func (s *Sequencer) readAnswers(b []byte, jobs []*txnJob) error {
	n, b, err := cutCount(b)
	if err != nil {
		return err
	}
	if n != len(jobs) {
		return fmt.Errorf("the leader gave %d answers to %d transactions", n, len(jobs))
	}
	for _, j := range jobs {
		if len(b) == 0 {
			return errors.New("the frame is cut short")
		}
		code := b[0]
		var body []byte
		if body, b, err = cutSized(b[1:]); err != nil {
			return err
		}
		a, err := s.readAnswer(code, body)
		j.reply(a, err)
	}
	return nil
}

func (s *Sequencer) readAnswer(code byte, body []byte) (Answer, error) {
	switch code {
	case codeAnswer:
		a, err := s.cfg.Txns.Answer(body)
		if err != nil {
			return nil, unknownOutcome(fmt.Errorf("read the leader's answer: %w", err))
		}
		return a, nil
	case codeAgain:
		return nil, errAgain
	case codeTooMany:
		return nil, tooManyTxns()
	case codeRefused:
		return nil, apierrors.NewBadRequest(string(body))
	case codeError:
		var e wireError
		if err := json.Unmarshal(body, &e); err != nil {
			return nil, unknownOutcome(fmt.Errorf("read the leader's answer: %w", err))
		}
		return nil, e.err()
	}
	return nil, unknownOutcome(errors.New(string(body)))
}

// serveTxns answers a frame.
func (s *Sequencer) serveTxns(ctx context.Context, frame []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, served(frameTimeout))
	defer cancel()
	n, b, err := cutCount(frame)
	if err != nil {
		return nil, err
	}
	answers := make([]txnAnswer, n)
	jobs := make([]*txnJob, 0, n)
	waits := make([]*txnJob, n)
	leads := s.store.Leader().Self && s.cfg.Txns != nil
	for i := range n {
		var body []byte
		if body, b, err = cutSized(b); err != nil {
			return nil, err
		}
		if !leads {
			answers[i].err = errAgain
			continue
		}
		txn, err := s.cfg.Txns.Txn(body)
		if err != nil {
			answers[i].err = apierrors.NewBadRequest(err.Error())
			continue
		}
		waits[i] = newTxnJob(txn)
		jobs = append(jobs, waits[i])
	}
	full := !s.txns.put(jobs...)
	for i, j := range waits {
		switch {
		case j == nil:
		case full:
			answers[i].err = tooManyTxns()
		default:
			if answers[i].answer, answers[i].err = s.awaitTxn(ctx, j); j.state.Load() == abandoned {
				answers[i].err = errAgain
			}
		}
	}
	out := binary.AppendUvarint([]byte{txnFrame}, uint64(n))
	for i := range answers {
		out = appendAnswer(out, &answers[i])
	}
	return out, nil
}

// text is an error's text in a frame.
type text string

// AppendTo appends the text.
func (t text) AppendTo(b []byte) []byte { return append(b, t...) }

func appendAnswer(b []byte, a *txnAnswer) []byte {
	switch {
	case a.err == nil:
		return appendSized(append(b, codeAnswer), a.answer)
	case errors.Is(a.err, errAgain):
		return appendSized(append(b, codeAgain), text(""))
	case apierrors.IsTooManyRequests(a.err):
		return appendSized(append(b, codeTooMany), text(""))
	case apierrors.IsTimeout(a.err):
		return appendSized(append(b, codeUnknown), text(a.err.Error()))
	}
	e, err := json.Marshal(wireErrorOf(a.err))
	if err != nil {
		return appendSized(append(b, codeUnknown), text(a.err.Error()))
	}
	return appendSized(append(b, codeError), text(e))
}

// txnPatience is the default of Config.TxnPatience.
const txnPatience = time.Second
