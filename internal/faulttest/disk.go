package faulttest

import (
	"context"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"reconcile/internal/needs"
)

// Disk is a file system in this process's memory that forgets at a power cut what was not synced, and that can be full, slow or broken. Its
// methods are safe for concurrent use.
type Disk struct {
	t      testing.TB
	dice   *Dice
	where  string
	server *fuse.Server

	mu     sync.Mutex
	root   *folder
	inodes uint64
	faults DiskFaults
	count  struct{ syncs, writes int }
}

// DiskFaults is what is wrong with a disk. The zero value is a good one.
type DiskFaults struct {
	// Full makes writes fail that would make files larger: there is no space.
	Full bool
	// FullFrom, if set, makes the Nth write from now, and all after it, fail with no space.
	FullFrom int
	// SlowSync is how long an fsync takes.
	SlowSync time.Duration
	// SyncError makes fsync fail, WriteError writes, ReadError reads, with an input/output error.
	SyncError, WriteError, ReadError bool
	// SyncErrorFrom, if set, makes the Nth fsync from now, and all after it, fail.
	SyncErrorFrom int
}

// MountDisk mounts an empty disk until t ends.
func MountDisk(t testing.TB, where string) *Disk {
	t.Helper()
	d := mountDisk(t, where, NewDice(t, "disk"))
	t.Cleanup(d.unmount)
	return d
}

// mountDisk mounts an empty disk. It skips the test where there is no /dev/fuse or no right to mount.
func mountDisk(t testing.TB, where string, dice *Dice) *Disk {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Geteuid() != 0 {
		needs.Missing(t, "a disk that forgets needs /dev/fuse and root; run `sudo -E make faults`")
	}
	d := &Disk{t: t, dice: dice, where: where, inodes: 1}
	d.root = newFolder(1, nil, "")
	d.mount()
	return d
}

func (d *Disk) mount() {
	d.t.Helper()
	timeout := time.Second
	server, err := fs.Mount(d.where, &folderNode{d: d, f: d.root}, &fs.Options{
		EntryTimeout: &timeout, AttrTimeout: &timeout,
		MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "faulttest", Name: "faulttest", MaxWrite: 1 << 20},
	})
	if err != nil {
		d.t.Fatalf("mount a disk at %s: %v", d.where, err)
	}
	d.server = server
}

// unmount ends the file system; whoever uses it must have ended.
func (d *Disk) unmount() {
	d.t.Helper()
	if d.server == nil {
		return
	}
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = d.server.Unmount(); err == nil {
			d.server = nil
			return
		}
	}
	d.t.Errorf("unmount %s: %v", d.where, err)
}

// discard ends the file system and lets go of what it holds.
func (d *Disk) discard() {
	d.t.Helper()
	d.unmount()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.root = newFolder(1, nil, "")
}

// PowerCut forgets what was not synced. The process that used the disk must have been killed. Each unsynced sector is kept with
// probability keep.
func (d *Disk) PowerCut(keep float64) {
	d.t.Helper()
	d.unmount()
	d.mu.Lock()
	d.root = d.root.cut(func() bool { return d.dice.Float64() < keep })
	d.faults = DiskFaults{}
	d.mu.Unlock()
	d.mount()
}

// Break makes the disk faulty in the given way, and in no other.
func (d *Disk) Break(f DiskFaults) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = f
	d.count.syncs, d.count.writes = 0, 0
}

// Syncs is the number of fsyncs since the last Break.
func (d *Disk) Syncs() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count.syncs
}

// sync runs what an fsync does, slowly or not at all if the disk is so.
func (d *Disk) sync(ctx context.Context, do func()) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count.syncs++
	f := d.faults
	if f.SlowSync > 0 {
		d.mu.Unlock()
		pause(ctx, f.SlowSync)
		d.mu.Lock()
	}
	if f.SyncError || (f.SyncErrorFrom > 0 && d.count.syncs >= f.SyncErrorFrom) {
		return syscall.EIO
	}
	do()
	return 0
}

// mayWrite tells whether a write may be done that makes a file longer by grow bytes.
func (d *Disk) mayWrite(grow int64) syscall.Errno {
	d.count.writes++
	switch f := d.faults; {
	case f.WriteError:
		return syscall.EIO
	case f.Full && grow > 0, f.FullFrom > 0 && d.count.writes >= f.FullFrom:
		return syscall.ENOSPC
	}
	return 0
}

func (d *Disk) inode() uint64 {
	d.inodes++
	return d.inodes
}

// folderNode is a directory as the kernel asks for it.
type folderNode struct {
	fs.Inode
	d *Disk
	f *folder
}

// child is the node of an entry.
func (n *folderNode) child(ctx context.Context, e any, out *fuse.EntryOut) *fs.Inode {
	switch e := e.(type) {
	case *folder:
		out.Mode = fuse.S_IFDIR | 0o700
		return n.NewInode(ctx, &folderNode{d: n.d, f: e}, fs.StableAttr{Mode: fuse.S_IFDIR, Ino: e.ino})
	case *document:
		out.Mode, out.Size = fuse.S_IFREG|0o600, uint64(len(e.data))
		return n.NewInode(ctx, &documentNode{d: n.d, f: e}, fs.StableAttr{Mode: fuse.S_IFREG, Ino: e.ino})
	}
	return nil
}

// Lookup implements fs.NodeLookuper.
func (n *folderNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	e, ok := n.f.now[name]
	if !ok {
		return nil, syscall.ENOENT
	}
	return n.child(ctx, e, out), 0
}

// Readdir implements fs.NodeReaddirer.
func (n *folderNode) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	var list []fuse.DirEntry
	for name, e := range n.f.now {
		switch e := e.(type) {
		case *folder:
			list = append(list, fuse.DirEntry{Name: name, Ino: e.ino, Mode: fuse.S_IFDIR})
		case *document:
			list = append(list, fuse.DirEntry{Name: name, Ino: e.ino, Mode: fuse.S_IFREG})
		}
	}
	return fs.NewListDirStream(list), 0
}

// Mkdir implements fs.NodeMkdirer.
func (n *folderNode) Mkdir(ctx context.Context, name string, _ uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	if n.f.now[name] != nil {
		return nil, syscall.EEXIST
	}
	if errno := n.d.mayWrite(sector); errno != 0 {
		return nil, errno
	}
	e := newFolder(n.d.inode(), n.f, name)
	n.f.now[name] = e
	return n.child(ctx, e, out), 0
}

// Create implements fs.NodeCreater.
func (n *folderNode) Create(ctx context.Context, name string, _, _ uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	if n.f.now[name] != nil {
		return nil, nil, 0, syscall.EEXIST
	}
	if errno := n.d.mayWrite(sector); errno != 0 {
		return nil, nil, 0, errno
	}
	e := &document{ino: n.d.inode(), parent: n.f, name: name}
	n.f.now[name] = e
	return n.child(ctx, e, out), nil, 0, 0
}

// Unlink implements fs.NodeUnlinker.
func (n *folderNode) Unlink(_ context.Context, name string) syscall.Errno {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	delete(n.f.now, name)
	return 0
}

// Rmdir implements fs.NodeRmdirer.
func (n *folderNode) Rmdir(_ context.Context, name string) syscall.Errno {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	if e, ok := n.f.now[name].(*folder); ok && len(e.now) > 0 {
		return syscall.ENOTEMPTY
	}
	delete(n.f.now, name)
	return 0
}

// Rename implements fs.NodeRenamer.
func (n *folderNode) Rename(_ context.Context, name string, to fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	target, ok := to.(*folderNode)
	if !ok || flags != 0 {
		return syscall.EINVAL
	}
	e := n.f.now[name]
	if e == nil {
		return syscall.ENOENT
	}
	delete(n.f.now, name)
	target.f.now[newName] = e
	return 0
}

// Fsync implements fs.NodeFsyncer.
func (n *folderNode) Fsync(ctx context.Context, _ fs.FileHandle, _ uint32) syscall.Errno {
	return n.d.sync(ctx, n.f.sync)
}

// Getattr implements fs.NodeGetattrer.
func (n *folderNode) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode = fuse.S_IFDIR | 0o700
	return 0
}

// Setattr implements fs.NodeSetattrer: modes and times are not kept.
func (n *folderNode) Setattr(context.Context, fs.FileHandle, *fuse.SetAttrIn, *fuse.AttrOut) syscall.Errno {
	return 0
}

// Statfs implements fs.NodeStatfser.
func (n *folderNode) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	out.Bsize, out.Frsize, out.NameLen = sector, sector, 255
	out.Blocks = 1 << 18
	if !n.d.faults.Full {
		out.Bfree, out.Bavail = 1<<17, 1<<17
	}
	return 0
}

// documentNode is a file as the kernel asks for it.
type documentNode struct {
	fs.Inode
	d *Disk
	f *document
}

// Open implements fs.NodeOpener.
func (n *documentNode) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, 0, 0
}

// Read implements fs.NodeReader.
func (n *documentNode) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	if n.d.faults.ReadError {
		return nil, syscall.EIO
	}
	if off >= int64(len(n.f.data)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(dest[:copy(dest, n.f.data[off:])]), 0
}

// Write implements fs.NodeWriter.
func (n *documentNode) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	if errno := n.d.mayWrite(off + int64(len(data)) - int64(len(n.f.data))); errno != 0 {
		return 0, errno
	}
	n.f.change(change{at: off, data: append(make([]byte, 0, len(data)), data...)})
	return uint32(len(data)), 0
}

// Allocate implements fs.NodeAllocater.
func (n *documentNode) Allocate(_ context.Context, _ fs.FileHandle, off, size uint64, mode uint32) syscall.Errno {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	end := int64(off + size)
	if mode != 0 {
		return syscall.EOPNOTSUPP
	}
	if errno := n.d.mayWrite(end - int64(len(n.f.data))); errno != 0 {
		return errno
	}
	if end > int64(len(n.f.data)) {
		n.f.change(change{at: end})
	}
	return 0
}

// Fsync implements fs.NodeFsyncer.
func (n *documentNode) Fsync(ctx context.Context, _ fs.FileHandle, _ uint32) syscall.Errno {
	return n.d.sync(ctx, n.f.sync)
}

// Flush implements fs.NodeFlusher: close syncs nothing.
func (n *documentNode) Flush(context.Context, fs.FileHandle) syscall.Errno { return 0 }

// Getattr implements fs.NodeGetattrer.
func (n *documentNode) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	out.Mode, out.Size = fuse.S_IFREG|0o600, uint64(len(n.f.data))
	out.Blocks = (out.Size + 511) / 512
	return 0
}

// Setattr implements fs.NodeSetattrer: of it only the length is kept.
func (n *documentNode) Setattr(ctx context.Context, h fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		n.d.mu.Lock()
		errno := n.d.mayWrite(int64(size) - int64(len(n.f.data)))
		if errno == 0 {
			n.f.change(change{at: int64(size)})
		}
		n.d.mu.Unlock()
		if errno != 0 {
			return errno
		}
	}
	return n.Getattr(ctx, h, out)
}
