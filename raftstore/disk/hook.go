package disk

// Op is a kind of operation on files, as a Hook sees it.
type Op string

// The operations that change something, and the reading of a file.
const (
	OpCreate   Op = "create"
	OpAllocate Op = "allocate"
	OpWrite    Op = "write"
	OpDatasync Op = "datasync"
	OpRename   Op = "rename"
	OpRemove   Op = "remove"
	OpMkdir    Op = "mkdir"
	OpSyncDir  Op = "syncdir"
	OpRead     Op = "read"
)

// Hook is an FS for tests: Before is called before each operation that changes or reads a file, with the path that it concerns (of a
// rename the new one). If it returns an error, the operation is not done and fails with it. Several goroutines may call it at once.
type Hook struct {
	FS
	Before func(op Op, path string) error
}

// Create implements FS.
func (h Hook) Create(path string) (File, error) {
	if err := h.Before(OpCreate, path); err != nil {
		return nil, err
	}
	return h.wrap(path)(h.FS.Create(path))
}

// Open implements FS.
func (h Hook) Open(path string) (File, error) { return h.wrap(path)(h.FS.Open(path)) }

func (h Hook) wrap(path string) func(File, error) (File, error) {
	return func(f File, err error) (File, error) {
		if err != nil {
			return nil, err
		}
		return hookFile{f, path, h.Before}, nil
	}
}

// Rename implements FS.
func (h Hook) Rename(from, to string) error {
	if err := h.Before(OpRename, to); err != nil {
		return err
	}
	return h.FS.Rename(from, to)
}

// Remove implements FS.
func (h Hook) Remove(path string) error {
	if err := h.Before(OpRemove, path); err != nil {
		return err
	}
	return h.FS.Remove(path)
}

// MkdirAll implements FS.
func (h Hook) MkdirAll(dir string) error {
	if err := h.Before(OpMkdir, dir); err != nil {
		return err
	}
	return h.FS.MkdirAll(dir)
}

// SyncDir implements FS.
func (h Hook) SyncDir(dir string) error {
	if err := h.Before(OpSyncDir, dir); err != nil {
		return err
	}
	return h.FS.SyncDir(dir)
}

type hookFile struct {
	File
	path   string
	before func(op Op, path string) error
}

// ReadAt implements File.
func (f hookFile) ReadAt(b []byte, off int64) (int, error) {
	if err := f.before(OpRead, f.path); err != nil {
		return 0, err
	}
	return f.File.ReadAt(b, off)
}

// WriteAt implements File.
func (f hookFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.before(OpWrite, f.path); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, off)
}

// Allocate implements File.
func (f hookFile) Allocate(size int64) error {
	if err := f.before(OpAllocate, f.path); err != nil {
		return err
	}
	return f.File.Allocate(size)
}

// Datasync implements File.
func (f hookFile) Datasync() error {
	if err := f.before(OpDatasync, f.path); err != nil {
		return err
	}
	return f.File.Datasync()
}
