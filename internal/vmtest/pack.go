package vmtest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// recipe is what the guest reads to know what to do.
type recipe struct {
	// Modules are files to load, in order.
	Modules []string
	// Args are the test flags.
	Args []string
	// Env are environment variables, NAME=VALUE.
	Env []string
	// Blocked is when the kernel is asked for the tasks that it holds, if the tests run so long; 0 means never.
	Blocked time.Duration
}

const (
	guestRecipe   = "/vmtest.json"
	guestProfile  = "/out/coverprofile"
	guestCoverDir = "/out/cover"
)

// always are the modules that every machine needs: the port that results go through, and randomness. crc32c_generic comes first
// because others ask for a checksum by its name, which no dependency says.
var always = []string{"crc32c_generic", "virtio_pci", "virtio_console", "virtio_rng"}

// pack writes the initial RAM disk.
func pack(path string, cfg Config, args []string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := newCPIO(bufio.NewWriterSize(f, 1<<20))
	self, err := os.Executable()
	if err != nil {
		return err
	}
	files := map[string]string{"/init": self}
	for guest, host := range cfg.Files {
		files[guest] = host
	}
	if err := addTestdata(files); err != nil {
		return err
	}
	for _, p := range append([]string{self}, cfg.Programs...) {
		if err := addProgram(files, p, p != self); err != nil {
			return err
		}
	}
	mods, err := findModules(filepath.Join(KernelFolder(), "modules"))
	if err != nil {
		return err
	}
	order, err := mods.order(append(append([]string(nil), always...), cfg.Modules...))
	if err != nil {
		return err
	}
	r := recipe{Args: args, Blocked: cfg.blocked}
	for name, value := range cfg.Env {
		r.Env = append(r.Env, name+"="+value)
	}
	for _, host := range order {
		guest := "/modules/" + filepath.Base(host)
		files[guest] = host
		r.Modules = append(r.Modules, guest)
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := w.file(guestRecipe, 0o644, text); err != nil {
		return err
	}
	if err := w.files(files); err != nil {
		return err
	}
	return w.close()
}

// addTestdata adds the package's testdata: `go test` starts the binary in the package's folder.
func addTestdata(files map[string]string) error {
	return filepath.WalkDir("testdata", func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if d.Type().IsRegular() {
			abs, err := filepath.Abs(path)
			if err != nil {
				return err
			}
			files["/"+filepath.ToSlash(path)] = abs
		}
		return nil
	})
}

// addProgram adds the shared libraries of a program and, if itself is set, the program.
func addProgram(files map[string]string, program string, itself bool) error {
	path, err := exec.LookPath(program)
	if err != nil {
		return err
	}
	if itself {
		files[path] = path
	}
	// ldd fails for a static program, which needs nothing.
	out, err := exec.Command("ldd", path).Output()
	if err != nil {
		return nil //nolint:nilerr // as said
	}
	for _, line := range strings.Split(string(out), "\n") {
		for _, word := range strings.Fields(line) {
			if strings.HasPrefix(word, "/") {
				files[word] = word
			}
		}
	}
	return nil
}

// cpio writes the "newc" format of cpio that the kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst).
type cpio struct {
	w    *bufio.Writer
	dirs map[string]bool
	ino  int
}

func newCPIO(w *bufio.Writer) *cpio { return &cpio{w: w, dirs: map[string]bool{"/": true, ".": true}} }

// files adds host files by their guest path. Links are followed.
func (c *cpio) files(files map[string]string) error {
	for guest, host := range files {
		st, err := os.Stat(host)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(host)
		if err != nil {
			return err
		}
		if err := c.file(guest, st.Mode().Perm(), data); err != nil {
			return err
		}
	}
	return nil
}

// file adds a file and the folders above it.
func (c *cpio) file(path string, mode fs.FileMode, data []byte) error {
	if err := c.parents(filepath.Dir(path)); err != nil {
		return err
	}
	return c.entry(path, 0o100000|uint32(mode), data)
}

func (c *cpio) parents(dir string) error {
	if c.dirs[dir] {
		return nil
	}
	if err := c.parents(filepath.Dir(dir)); err != nil {
		return err
	}
	c.dirs[dir] = true
	return c.entry(dir, 0o040755, nil)
}

func (c *cpio) entry(path string, mode uint32, data []byte) error {
	c.ino++
	name := strings.TrimPrefix(path, "/") + "\x00"
	if _, err := fmt.Fprintf(c.w, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", c.ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0); err != nil {
		return err
	}
	const header = 110
	if _, err := c.w.WriteString(name + zeros(header+len(name))); err != nil {
		return err
	}
	if _, err := c.w.Write(data); err != nil {
		return err
	}
	_, err := c.w.WriteString(zeros(len(data)))
	return err
}

// zeros pads n to a multiple of 4.
func zeros(n int) string { return "\x00\x00\x00"[:(4-n%4)%4] }

func (c *cpio) close() error {
	if err := c.entry("TRAILER!!!", 0, nil); err != nil {
		return err
	}
	return c.w.Flush()
}
