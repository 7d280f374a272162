package git

import (
	"bytes"
	"io"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

// FuzzReceivePack gives whatever comes to receive-pack: no panic, and nothing reaches the receiver that is not whole.
func FuzzReceivePack(f *testing.F) {
	zero := Hash{}.String()
	one := plumbing.ComputeHash(plumbing.BlobObject, nil).String()
	f.Add([]byte("0000"))
	f.Add(appendFlush(appendPkt(nil, "%s %s refs/heads/main\x00report-status side-band-64k", zero, one)))
	f.Add(append(appendFlush(appendPkt(appendPkt(nil, "shallow %s", one), "%s %s refs/heads/x\x00report-status push-options", zero, one)), appendFlush(appendPkt(nil, "plan"))...))
	f.Add(append(appendFlush(appendPkt(nil, "%s %s refs/heads/main\x00", zero, one)), "PACK\x00\x00\x00\x02\x00\x00\x00\x01"...))
	f.Fuzz(func(t *testing.T, in []byte) {
		store := newStore()
		repo, err := Open(Config{Store: store, Limits: Limits{PackBytes: 1 << 16, ObjectBytes: 1 << 16, TotalBytes: 1 << 18}})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := repo.ReceivePack(t.Context(), bytes.NewReader(in), &out, &receiver{store: store}); err != nil {
			t.Skip(err)
		}
	})
}

// FuzzUnpack unpacks whatever comes within small limits.
func FuzzUnpack(f *testing.F) {
	var pack bytes.Buffer
	a, b := newObject(plumbing.BlobObject, []byte("hello hello hello")), newObject(plumbing.BlobObject, []byte("hello hello"))
	find := func(h Hash) (*Object, bool) {
		for _, o := range []*Object{a, b} {
			if o.hash == h {
				return o, true
			}
		}
		return nil, false
	}
	if err := encodePack(&pack, encodable{lookup: find}, []Hash{a.hash, b.hash}); err != nil {
		f.Fatal(err)
	}
	f.Add(pack.Bytes())
	limits := Limits{ObjectBytes: 1 << 16, TotalBytes: 1 << 18, Objects: 100}
	f.Fuzz(func(t *testing.T, in []byte) {
		objects, err := unpack(in, limits, find)
		if err != nil {
			return
		}
		total := int64(0)
		for _, o := range objects {
			total += o.Size()
		}
		if total > limits.TotalBytes {
			t.Errorf("%d bytes were unpacked, the limit is %d", total, limits.TotalBytes)
		}
	})
}

// FuzzUpload gives whatever comes to upload-pack.
func FuzzUpload(f *testing.F) {
	one := plumbing.ComputeHash(plumbing.BlobObject, nil).String()
	f.Add(appendPkt(appendFlush(appendPkt(appendPkt(nil, "want %s side-band-64k", one), "deepen 1")), "done\n"))
	repo, err := Open(Config{Store: newStore()})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if err := repo.UploadPack(t.Context(), bytes.NewReader(in), io.Discard); err != nil {
			t.Skip(err)
		}
	})
}
