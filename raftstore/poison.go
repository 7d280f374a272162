package raftstore

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"reconcile/raftstore/disk"
	"reconcile/raftstore/wal"
)

// poisonName is the file that tells of an entry at which this program panicked. As long as it is there, the same program does not start on the
// folder: it would read its log and panic again, as often as somebody starts it. Another version tries, and removes it.
const poisonName = "raft.panic"

// ErrPoisoned tells that the log holds an entry that this program cannot apply, or a snapshot that it cannot restore, without a panic.
var ErrPoisoned = errors.New("an entry cannot be applied by this version")

// poison is what the file says. It holds no value of an entry: what a panic says may be a user's.
type poison struct {
	// Index and Term are the entry's; 0 where a snapshot was restored.
	Index uint64 `json:"index,omitempty"`
	Term  uint64 `json:"term,omitempty"`
	// File is where the entry stands, as far as it is known.
	File string `json:"file,omitempty"`
	// Panic is what kind of panic it was, Stack where.
	Panic string `json:"panic"`
	Stack string `json:"stack"`
	// Program is the SHA-256 of the program's file; empty if it could not be read.
	Program string    `json:"program,omitempty"`
	Time    time.Time `json:"time"`
}

// caught makes an error of what a panic left, after it was noted in the folder.
func (f *fsm) caught(what any, index, term uint64) error {
	p := poison{Index: index, Term: term, Panic: kindOf(what), Stack: string(debug.Stack())}
	if f.note == nil {
		return fmt.Errorf("%w: panic: %s", ErrPoisoned, p.Panic)
	}
	return f.note(p)
}

// kindOf says what may be said of a panic: the runtime's are about places and lengths, any other one may hold a value.
func kindOf(what any) string {
	if err, ok := what.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("%T", what)
}

// notePanic writes the file, and says what happened and what to do.
func (s *Store) notePanic(p poison) error {
	p.Time, p.Program = time.Now().UTC(), programSum()
	if w, ok := s.storage.log.(*wal.Log); ok && p.Index > 0 {
		p.File = w.File(p.Index)
	}
	s.cfg.Logger.Error("a panic while an entry was applied", "index", p.Index, "term", p.Term, "file", p.File, "panic", p.Panic, "stack", p.Stack)
	if s.cfg.Storage != nil {
		return p.err("memory")
	}
	path := filepath.Join(s.cfg.Dir, poisonName)
	body, err := json.MarshalIndent(p, "", "  ")
	if err == nil {
		err = disk.WriteFile(s.cfg.FS, path, append(body, '\n'))
	}
	return errors.Join(p.err(path), err)
}

func (p poison) err(path string) error {
	what := "a snapshot panicked when it was restored"
	if p.Index > 0 {
		what = fmt.Sprintf("entry %d of term %d panicked when it was applied", p.Index, p.Term)
		if p.File != "" {
			what += " (it stands in " + p.File + ")"
		}
	}
	return fmt.Errorf("%w: %s: %s. %s says where. Start another version, which removes that file and tries again; "+
		"or, if the cause was this machine and the other servers run on, remove the file and start again. Nothing was lost", ErrPoisoned, what, p.Panic, path)
}

// poisoned refuses a folder on which this very program panicked before. What another one left is removed.
func poisoned(fsys disk.FS, dir string) error {
	path := filepath.Join(dir, poisonName)
	body, err := disk.ReadFile(fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	var p poison
	if err := json.Unmarshal(body, &p); err != nil {
		return fmt.Errorf("%w: %s tells of a panic and cannot be read (%w); look into it, and remove it to start again", ErrPoisoned, path, err)
	}
	if sum := programSum(); sum != "" && sum == p.Program {
		return p.err(path)
	}
	if err := fsys.Remove(path); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

// programSum is the SHA-256 of the running program's file; empty if it cannot be read.
func programSum() string {
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil))
}
