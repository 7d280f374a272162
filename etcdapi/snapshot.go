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
	"slices"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"reconcile/raftstore"
)

// snapshotChunk is how much of a snapshot one message holds: etcd's.
const snapshotChunk = 32 << 10

// Snapshot implements etcdserverpb.MaintenanceServer: the newest state as a database of etcd, behind which stands its SHA-256, so that
// `etcdutl snapshot restore` makes a cluster of etcd from it. Our own keys are left out. The database is made first, in a file without a name
// (raftstore.Scratch), for one client at a time: the others wait.
func (m maintenanceService) Snapshot(_ *pb.SnapshotRequest, stream pb.Maintenance_SnapshotServer) error {
	ctx := stream.Context()
	c, err := m.s.clientOf(ctx)
	if err != nil {
		return err
	}
	if err := c.mayRead(raftstore.Span{}); err != nil {
		return err
	}
	select {
	case m.s.snapshots <- struct{}{}:
		defer func() { <-m.s.snapshots }()
	case <-ctx.Done():
		return contextError(ctx)
	case <-m.s.life.Done():
		return rpctypes.ErrGRPCStopped
	}
	f, err := m.s.cfg.Store.Scratch()
	if err != nil {
		return snapshotError(err)
	}
	defer f.Close()
	v := m.s.cfg.Store.View()
	if err := writeDatabase(f, v, m.s.cfg.Store.Leader().Term, m.s.cfg.Store.Stats().AppliedIndex); err != nil {
		return snapshotError(err)
	}
	return m.sendDatabase(stream, f, v.Rev())
}

// sendDatabase sends a file and its checksum.
func (m maintenanceService) sendDatabase(stream pb.Maintenance_SnapshotServer, f *os.File, rev uint64) error {
	info, err := f.Stat()
	if err != nil {
		return snapshotError(err)
	}
	sum := sha256.New()
	left := uint64(info.Size())
	send := func(b []byte) error {
		left -= min(left, uint64(len(b)))
		return stream.Send(&pb.SnapshotResponse{Header: m.s.header(rev), RemainingBytes: left, Blob: b, Version: storageVersion})
	}
	all := io.NewSectionReader(f, 0, info.Size())
	for {
		b := make([]byte, snapshotChunk)
		n, err := io.ReadFull(all, b)
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
	if errors.Is(err, raftstore.ErrNoSpace) {
		return rpctypes.ErrGRPCNoSpace
	}
	return status.Errorf(codes.Internal, "etcdserver: make a snapshot: %v", err)
}

// databaseBatch is how many keys one transaction of the database writes.
const databaseBatch = 10_000

// writeDatabase writes a state to an empty file in the schema of etcd's database (server/storage/schema): each key once, at the revision of its
// newest version.
func writeDatabase(f *os.File, v *raftstore.View, term, index uint64) error {
	// The database closes the file that it opens: it gets one of its own, by the descriptor, for there is no name.
	again := func(string, int, os.FileMode) (*os.File, error) {
		return os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDWR, 0)
	}
	db, err := bbolt.Open("", 0, &bbolt.Options{OpenFile: again, NoSync: true, NoGrowSync: true, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
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
