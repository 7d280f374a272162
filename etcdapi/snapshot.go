package etcdapi

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"reconcile/raftstore"
)

// snapshotChunk is how much of a snapshot one message holds: etcd's.
const snapshotChunk = 32 << 10

// Snapshot implements etcdserverpb.MaintenanceServer: the newest state as a database of etcd, behind which stands its SHA-256, so that
// `etcdutl snapshot restore` makes a cluster of etcd from it. Our own keys are left out. The file is made beside, and gone when it is sent.
func (m maintenanceService) Snapshot(_ *pb.SnapshotRequest, stream pb.Maintenance_SnapshotServer) (err error) {
	c, err := m.s.clientOf(stream.Context())
	if err != nil {
		return err
	}
	if err := c.mayRead(raftstore.Span{}); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "reconcile-snapshot-")
	if err != nil {
		return snapshotError(err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	v := m.s.cfg.Store.View()
	path := filepath.Join(dir, "db")
	if err := writeDatabase(path, v, m.s.cfg.Store.Leader().Term, m.s.cfg.Store.Stats().AppliedIndex); err != nil {
		return snapshotError(err)
	}
	f, err := os.Open(path)
	if err != nil {
		return snapshotError(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return snapshotError(err)
	}
	sum := sha256.New()
	left := uint64(info.Size())
	send := func(b []byte) error {
		left -= min(left, uint64(len(b)))
		return stream.Send(&pb.SnapshotResponse{Header: m.s.header(v.Rev()), RemainingBytes: left, Blob: b, Version: storageVersion})
	}
	for {
		b := make([]byte, snapshotChunk)
		n, err := io.ReadFull(f, b)
		if n > 0 {
			_, _ = sum.Write(b[:n]) // never fails
			if err := send(b[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return send(sum.Sum(nil))
		}
		if err != nil {
			return snapshotError(err)
		}
	}
}

func snapshotError(err error) error {
	return status.Errorf(codes.Internal, "etcdserver: make a snapshot: %v", err)
}

// databaseBatch is how many keys one transaction of the database writes.
const databaseBatch = 10_000

// writeDatabase writes a state in the schema of etcd's database (server/storage/schema): each key once, at the revision of its newest version.
func writeDatabase(path string, v *raftstore.View, term, index uint64) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return fmt.Errorf("make the database: %w", err)
	}
	err = fillDatabase(db, v, term, index)
	return errors.Join(err, db.Close())
}

func fillDatabase(db *bbolt.DB, v *raftstore.View, term, index uint64) error {
	err := db.Update(func(tx *bbolt.Tx) error {
		for _, name := range []string{"alarm", "auth", "authRoles", "authUsers", "cluster", "key", "lease", "members", "members_removed", "meta"} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		meta := tx.Bucket([]byte("meta"))
		err := errors.Join(meta.Put([]byte("consistent_index"), binary.BigEndian.AppendUint64(nil, index)),
			meta.Put([]byte("term"), binary.BigEndian.AppendUint64(nil, term)),
			meta.Put([]byte("storageVersion"), []byte(storageVersion)))
		leases := tx.Bucket([]byte("lease"))
		for l := range v.Leases() {
			var b []byte
			b = appendInt(b, 1, uint64(l.ID))
			b = appendInt(b, 2, uint64(l.TTL))
			err = errors.Join(err, leases.Put(binary.BigEndian.AppendUint64(nil, uint64(l.ID)), b))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("begin the database: %w", err)
	}
	var records []*raftstore.Record
	for r := range v.Range("") {
		if visible(r.Key) {
			records = append(records, r)
		}
	}
	slices.SortStableFunc(records, func(a, b *raftstore.Record) int { return cmp.Compare(a.ModRev, b.ModRev) })
	sub := uint64(0)
	for at := 0; at < len(records); at += databaseBatch {
		if err := db.Update(func(tx *bbolt.Tx) error {
			keys := tx.Bucket([]byte("key"))
			keys.FillPercent = 0.9 // they come in order
			for i := at; i < min(at+databaseBatch, len(records)); i++ {
				if sub++; i == 0 || records[i].ModRev != records[i-1].ModRev {
					sub = 0
				}
				if err := keys.Put(revisionKey(records[i].ModRev, sub), appendKeyValue(nil, records[i])); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return fmt.Errorf("write the keys: %w", err)
		}
	}
	if n := len(records); v.Rev() > math.MaxInt64 || n > 0 && records[n-1].ModRev == v.Rev() {
		return nil
	}
	// The newest revision was a deletion, or is hidden: a mark without a key carries it, so that revisions never go back.
	return db.Update(func(tx *bbolt.Tx) error {
		mark := &raftstore.Record{Key: "\x00", ModRev: v.Rev()}
		return tx.Bucket([]byte("key")).Put(append(revisionKey(v.Rev(), 0), 't'), appendKeyValue(nil, mark))
	})
}

// revisionKey is how etcd's database names a version of a key.
func revisionKey(rev, sub uint64) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 18), rev)
	return binary.BigEndian.AppendUint64(append(b, '_'), sub)
}
