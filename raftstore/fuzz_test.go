package raftstore

import (
	"bufio"
	"bytes"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// program reads entries off the fuzzer's bytes: any operations, on few keys, leases and blobs, with bases that mostly fit.
type program struct{ b []byte }

func (p *program) next(n int) int {
	if len(p.b) == 0 {
		return 0
	}
	c := int(p.b[0])
	p.b = p.b[1:]
	return c % n
}

// packedOnce are the packed lists that programs hold: to compress them each time would be most of the time that a program takes.
var packedOnce = sync.OnceValue(func() (out struct{ blob, op [3][]byte }) {
	pk := testPacker()
	for i := range int64(3) {
		out.op[i] = pk.pack([]Op{put("/b/p", "packed"), LeaseRevoke(i, 0, 0)})
	}
	out.blob[0] = bytes.Repeat([]byte("blob"), 20)
	out.blob[1] = pk.pack([]Op{put("/a/x", "staged"), {Kind: Delete, Key: "/a/1"}, {Kind: Put, Key: "/a/y", SameRev: true, Lease: 1}})
	out.blob[2] = []byte("short")
	return out
})

// blob is one of a few bodies that may be staged, a list of operations among them.
func (p *program) blob() []byte { return packedOnce().blob[p.next(3)] }

func (p *program) op() Op {
	op := Op{Kind: OpKind(1 + p.next(int(opLast))), Key: fmt.Sprintf("/%c/%d", 'a'+rune(p.next(2)), p.next(4))}
	switch op.Kind {
	case Put:
		op.Value, op.Lease, op.SameRev = []byte{byte(p.next(256))}, int64(p.next(3)), p.next(3) == 0
	case Delete:
		op.SameRev = p.next(3) == 0
	case PutRef:
		op.Value = []byte(Digest(p.blob()))
	case opChunk:
		body := p.blob()
		from := p.next(len(body))
		to := from + p.next(len(body)-from+1)
		if p.next(2) == 0 {
			from, to = 0, len(body)
		}
		op.Key, op.Value = Digest(body), encodeChunk(len(body), from, body[from:to])
	case opPacked:
		op.Value = packedOnce().op[p.next(3)]
	case opSwitch, opDrop:
		op.Key = Digest(p.blob())
	case opCompact:
		op.Value = u64s(nil, uint64(p.next(256)))
	case opLeaseGrant:
		op = LeaseGrant(int64(p.next(4)), int64(p.next(100)))
	case opLeaseRevoke:
		op = LeaseRevoke(int64(p.next(4)), uint64(p.next(3)), uint64(p.next(3)))
	case opLeaseCheckpoint:
		op = LeaseCheckpoint([]Lease{{ID: int64(p.next(4)), Granted: uint64(p.next(20)), Remaining: int64(p.next(100))}})
	case opTouch:
		op.Value = appendBytes(nil, []byte(op.Key))
		op.Value = append(op.Value, make([]byte, p.next(9))...)
	}
	return op
}

// entry is the next entry for a member at revision rev.
func (p *program) entry(rev, nonce uint64) []byte {
	e := &Entry{Base: rev, Time: int64(p.next(256)) * 1e9, node: 1, Nonce: nonce}
	if p.next(8) == 0 {
		e.Base += uint64(p.next(3))
	}
	for range 1 + p.next(6) {
		e.Ops = append(e.Ops, p.op())
	}
	body := e.encode()
	if p.next(16) == 0 { // damage that the checksum does not tell
		body = body[:headerSize+p.next(len(body)-headerSize)]
		sum := checksum(body)
		body[4], body[5], body[6], body[7] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
	}
	return body
}

// FuzzApply runs programs of entries on three members: one alone, one that takes versions out of memory and is restored from its snapshots
// on the way, and one that replays the log. None may panic or stop, and all must hold the same.
func FuzzApply(f *testing.F) {
	for seed := range 40 {
		var b []byte
		for i := range 300 {
			b = append(b, byte(i*(seed+1)*37>>3), byte(seed*i+i>>2))
		}
		f.Add(b)
	}
	f.Fuzz(runProgram)
}

// TestRandomPrograms is FuzzApply with bytes of chance, for those who do not fuzz.
func TestRandomPrograms(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	for range 300 {
		body := make([]byte, 200+rnd.IntN(2000))
		for i := range body {
			body[i] = byte(rnd.Uint32())
		}
		if runProgram(t, body); t.Failed() {
			t.Fatalf("the program was %x", body)
		}
	}
}

func runProgram(t *testing.T, body []byte) {
	p := &program{b: body}
	one, two := fuzzed(), fuzzed()
	var log [][]byte
	for len(p.b) > 0 && len(log) < 60 {
		raw := p.entry(one.st.rev, uint64(len(log)+1))
		log = append(log, raw)
		a, b := applyRaw(t, one, len(log), raw), applyRaw(t, two, len(log), raw)
		if a != b {
			t.Fatalf("entry %d: two members answer %+v and %+v", len(log), a, b)
		}
		switch p.next(12) {
		case 0, 2, 3:
			two.st.collect(p.next(8))
		case 1:
			two = restored(t, two)
		}
	}
	three := fuzzed()
	for i, raw := range log {
		applyRaw(t, three, i+1, raw)
	}
	if a, b, c := one.st.digest(), two.st.digest(), three.st.digest(); a != b || a != c {
		t.Fatalf("after %d entries the digests are %s, %s and %s; %v", len(log), a, b, c, Equal(one.view(), two.view()))
	}
	// Some revisions of each program, at both ends and between: the programs are many.
	floor, rev := one.st.floor.Load(), one.st.rev
	for at := floor; at <= rev; at += max(1, (rev-floor)/4) {
		sameAt(t, one, two, at)
	}
	sameAt(t, one, two, rev)
}

func sameAt(t *testing.T, one, two *fsm, rev uint64) {
	v, err := one.view().At(rev)
	w, err2 := two.view().At(rev)
	if err != nil || err2 != nil {
		t.Fatalf("at revision %d: %v, %v", rev, err, err2)
	}
	if err := Equal(v, w); err != nil {
		t.Fatalf("at revision %d: %v", rev, err)
	}
}

// fuzzed is a member's state machine.
func fuzzed() *fsm {
	return newFSM(newState(byFirst, testPacker()), newHistory(64, 1<<16), &memoryBlobs{m: map[string][]byte{}}, 1, func(error) {})
}

func applyRaw(t testing.TB, f *fsm, index int, raw []byte) Outcome {
	out, ok := f.Apply(&raft.Log{Index: uint64(index), Term: 1, Data: bytes.Clone(raw)}).(Outcome)
	if !ok {
		t.Fatalf("entry %d stopped the member: %v", index, f.failed)
	}
	return out
}

// restored is a member that was restored from a member's snapshot: from its frames, for the compression around them takes most of the time and is
// tried elsewhere.
func restored(t *testing.T, f *fsm) *fsm {
	var body bytes.Buffer
	if err := (&snapshot{st: f.st.freeze()}).writeFrames(&body); err != nil {
		t.Fatal(err)
	}
	other := fuzzed()
	st, err := readFrames(frameReader{r: bufio.NewReader(&body), sum: crc32.New(castagnoli)}, other.st, f.blobs)
	if err == nil {
		other.blobs, other.fetch = f.blobs, f.fetchOwn
		err = other.replace(st, f.commands, other.complete(st.named(), nil))
	}
	if err != nil {
		t.Fatal(err)
	}
	return other
}

// fetchOwn has nobody to fetch from: a blob is in the folder or nowhere.
func (f *fsm) fetchOwn(digest string, _ *raft.SnapshotMeta) ([]byte, error) {
	return f.blobs.Get(digest)
}
