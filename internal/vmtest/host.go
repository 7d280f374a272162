package vmtest

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const qemu = "qemu-system-x86_64"

// Frames from the guest: a kind, the length as 4 bytes in network order, and the data.
const (
	frameOutput   = 'o' // what the tests print
	frameProfile  = 'c' // the cover profile
	frameCoverDir = 'd' // a file of the coverage folder: name, NUL, content
	frameExit     = 'x' // the exit code, decimal
	frameAlive    = 'a' // nothing: process 1 runs
)

// host packs, boots and waits; it returns the exit code.
func host(cfg Config) int {
	// `go test -list` must name the tests without a machine, but only the testing package knows them: it runs in the machine too.
	if why := Missing(); why != "" {
		fmt.Fprintln(os.Stderr, "vmtest: "+why)
		if os.Getenv(envRequired) != "" {
			return 1
		}
		fmt.Fprintln(os.Stderr, "vmtest: SKIPPED all tests of this package")
		return 0
	}
	if cfg.Slow && os.Getenv(envRequired) == "" {
		fmt.Fprintln(os.Stderr, "vmtest: SKIPPED all tests of this package: they are slow and run in `make test`, or with "+envRequired+"=1")
		return 0
	}
	code, err := boot(cfg)
	if err != nil {
		fmt.Fprintln(os.Stderr, "vmtest:", err)
		return 1
	}
	return code
}

func boot(cfg Config) (int, error) {
	timeout := cfg.Timeout
	if timeout == 0 {
		timeout = 5 * time.Minute
	}
	args := rewrite(os.Args[1:])
	args.guest = append(args.guest, "-test.timeout="+(timeout-sayWhy).String())
	cfg.blocked = timeout - sayWhy + sayWhy/4
	once := func() (int, error) {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		return runMachine(ctx, cfg, args)
	}
	code, err := once()
	if errors.Is(err, errStandsStill) || errors.Is(err, context.DeadlineExceeded) {
		fmt.Fprintf(os.Stderr, "vmtest: %v\nvmtest: no test can do that, for Go ends tests at their limit; it is the machine's kernel or the emulator. It is booted once more; should it happen often, look for what the tests ask of its kernel\n", err)
		return once()
	}
	return code, err
}

// errStandsStill says that the machine's process 1 was not heard: its kernel or the emulator hangs. A test that hangs is none of that.
var errStandsStill = fmt.Errorf("the machine stands still: its process 1 was not heard for %s", stillFor)

// stillFor is how long a machine may say nothing, boot included, and beat how often it says that it runs. Both are wide: it shares the host.
const (
	stillFor = 2 * time.Minute
	beat     = 5 * time.Second
)

// sayWhy is how long before the machine's own end its tests are ended: a test that hangs then tells where, which a machine that is
// switched off cannot.
const sayWhy = time.Minute

// Run boots a machine in which this test binary runs with the given flags (-test.run=X), and returns its exit code; cfg.Timeout is not looked at.
// What the tests print goes to out as it comes. When ctx ends the machine ends as when its power is cut: what its kernel had not written to
// cfg.Disks is lost. TestMain must call Main if InGuest.
func Run(ctx context.Context, cfg Config, out io.Writer, flags ...string) (int, error) {
	return runMachine(ctx, cfg, arguments{guest: flags, out: out})
}

func runMachine(ctx context.Context, cfg Config, args arguments) (int, error) {
	dir, err := os.MkdirTemp("", "vmtest-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if cfg.Prepare != nil {
		if err := cfg.Prepare(dir, &cfg); err != nil {
			return 0, fmt.Errorf("prepare the machine: %w", err)
		}
	}
	if err := cfg.Validate(); err != nil {
		return 0, err
	}
	initrd := filepath.Join(dir, "initrd")
	if err := pack(initrd, cfg, args.guest); err != nil {
		return 0, fmt.Errorf("pack the guest's files: %w", err)
	}
	console := filepath.Join(dir, "console")
	out, in, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer out.Close()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	still := time.AfterFunc(stillFor, func() { stop(errStandsStill) })
	defer still.Stop()
	cmd := exec.CommandContext(ctx, qemu, qemuArgs(cfg, initrd, console)...)
	cmd.ExtraFiles = []*os.File{in}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		in.Close()
		return 0, fmt.Errorf("start %s: %w", qemu, err)
	}
	in.Close()
	code, err := receive(out, args, func() { still.Reset(stillFor) })
	waitErr := cmd.Wait()
	if err != nil {
		return 0, fmt.Errorf("%w\n%s", errors.Join(err, context.Cause(ctx), waitErr), tail(console))
	}
	return code, nil
}

func qemuArgs(cfg Config, initrd, console string) []string {
	memory, cpus := cfg.MemoryMB, cfg.CPUs
	if memory == 0 {
		memory = 512
	}
	if cpus == 0 {
		cpus = 2
	}
	args := []string{
		"-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "qemu64", "-m", strconv.Itoa(memory), "-smp", strconv.Itoa(cpus),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", filepath.Join(KernelFolder(), "vmlinuz"), "-initrd", initrd,
		"-append", "console=ttyS0 loglevel=4 panic=-1 no_timer_check tsc=reliable transparent_hugepage=madvise rdinit=/init",
		"-serial", "file:" + console,
		"-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng,romfile=",
		"-device", "virtio-serial-pci,romfile=",
		// The pipe is inherited as descriptor 3.
		"-chardev", "file,id=out,path=/dev/fd/3", "-device", "virtserialport,chardev=out,name=vmtest",
	}
	for i, path := range cfg.Disks {
		args = append(args, "-drive", fmt.Sprintf("file=%s,format=raw,if=none,id=disk%d,cache=writeback", path, i), "-device", fmt.Sprintf("virtio-blk-pci,drive=disk%d,romfile=", i))
	}
	return args
}

// receive copies the guest's frames to where they belong and returns the exit code. It calls heard at each.
func receive(r io.Reader, args arguments, heard func()) (int, error) {
	in := bufio.NewReader(r)
	for {
		var head [5]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return 0, errors.New("the machine stopped without an exit code; its console ends as follows")
		}
		data := make([]byte, binary.BigEndian.Uint32(head[1:]))
		if _, err := io.ReadFull(in, data); err != nil {
			return 0, fmt.Errorf("a frame of the machine is cut off: %w", err)
		}
		heard()
		switch head[0] {
		case frameAlive:
		case frameOutput:
			_, _ = args.output().Write(data)
		case frameProfile:
			if err := os.WriteFile(args.profile, data, 0o644); err != nil {
				return 0, err
			}
		case frameCoverDir:
			name, content, _ := strings.Cut(string(data), "\x00")
			if err := os.WriteFile(filepath.Join(args.coverDir, filepath.Base(name)), []byte(content), 0o644); err != nil {
				return 0, err
			}
		case frameExit:
			return strconv.Atoi(string(data))
		default:
			return 0, fmt.Errorf("the machine sent a frame of unknown kind %q", head[0])
		}
	}
}

// arguments are the test flags: as the guest gets them, and where the host wants coverage.
type arguments struct {
	guest             []string
	profile, coverDir string
	out               io.Writer // nil: standard output
}

func (a arguments) output() io.Writer {
	if a.out == nil {
		return os.Stdout
	}
	return a.out
}

// rewrite turns paths of the host into paths of the guest and drops flags that only the host can serve.
func rewrite(args []string) arguments {
	var a arguments
	outputDir := ""
	for _, arg := range args {
		name, value, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		switch name {
		case "test.coverprofile":
			a.profile = value
			arg = "-test.coverprofile=" + guestProfile
		case "test.gocoverdir":
			a.coverDir = value
			arg = "-test.gocoverdir=" + guestCoverDir
		case "test.outputdir":
			outputDir = value
			continue
		case "test.timeout", "test.testlogfile", "test.cpuprofile", "test.memprofile", "test.blockprofile", "test.mutexprofile", "test.trace":
			continue
		}
		a.guest = append(a.guest, arg)
	}
	if a.profile != "" && !filepath.IsAbs(a.profile) {
		a.profile = filepath.Join(outputDir, a.profile)
	}
	return a
}

// tail is the end of the guest's console.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	const keep = 16000
	if len(b) > keep {
		b = b[len(b)-keep:]
	}
	return string(b)
}
