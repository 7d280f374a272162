// Command conformance lets Kubernetes' own conformance suite judge a cluster of ours: e2e.test, built from Kubernetes' module, against two
// machines made of network namespaces, a server with its node and a second node, with the suite's images imported under their names. The suite
// runs outside of both machines, as a user's client does.
//
// It owns the machines and the scratch folder that it makes, and removes them. It knows of reconcile only the commands up, agent, image and
// reset. Which specs are run, and which are known to fail and why, is told by the files of the folder sets, one an owner (a sig of Kubernetes).
// The verdict of each spec is the suite's, read from its JUnit report.
//
// scripts/conformance.sh builds what it needs and runs it in a network namespace. Exit status 0 means that nothing failed but what is known to.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

type options struct {
	bin, tools, images, pause string
	sets                      string
	owners                    []string
	focus                     string
	procs                     int
	limit                     time.Duration
	keep                      string
	write, commit             string
	serve                     bool
	from                      string
}

func main() {
	o := options{}
	flag.StringVar(&o.bin, "bin", "", "the binary reconcile")
	flag.StringVar(&o.tools, "tools", "", "folder of e2e.test, ginkgo and kubectl")
	flag.StringVar(&o.images, "images", "", "folder of the images' root folders")
	flag.StringVar(&o.pause, "pause", "", "the program of the image pause")
	flag.StringVar(&o.sets, "sets", "sets", "folder of the lists of specs")
	owners := flag.String("owners", "api-machinery,cli", "whose specs to run: names of files of that folder, or all")
	flag.StringVar(&o.focus, "focus", "", "run only specs whose name this matches too, those that are left out among them")
	flag.IntVar(&o.procs, "procs", 4, "specs at a time, but for those that want to be alone")
	flag.DurationVar(&o.limit, "limit", 2*time.Hour, "time for the whole")
	flag.StringVar(&o.keep, "keep", "", "folder for the suite's output and report, and the machines' logs")
	flag.StringVar(&o.write, "write", "", "page whose sections of these owners are written anew (docs/conformance.md)")
	flag.StringVar(&o.commit, "commit", "", "what the page says was judged")
	flag.StringVar(&o.from, "from", "", "run nothing: take the reports (junit.xml, with commas between) that earlier runs kept, of which the last that ran a spec counts; JUNIT=WHAT says what one has judged")
	flag.BoolVar(&o.serve, "serve", false, "run no specs: keep the cluster until Ctrl-C and say how to reach it")
	flag.Parse()
	o.owners = strings.Split(*owners, ",")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	sets, err := readSets(o.sets, o.owners)
	if err != nil {
		return err
	}
	if o.from != "" {
		return o.tell(sets, strings.Split(o.from, ","), 0)
	}
	dir, err := os.MkdirTemp("", "reconcile-conformance-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := spaceFor(dir); err != nil {
		return err
	}
	archives, err := archive(o, filepath.Join(dir, "archives"))
	if err != nil {
		return err
	}
	c := &cluster{bin: o.bin, dir: dir}
	defer func() {
		if o.keep != "" {
			err = errors.Join(err, c.keepLogs(o.keep))
		}
		err = errors.Join(err, c.stop())
	}()
	if err := c.start(ctx, archives); err != nil {
		return fmt.Errorf("start the cluster: %w", err)
	}
	if o.serve {
		fmt.Printf("KUBECONFIG=%s in the network namespace of process %d\n", c.kubeconfig(), os.Getpid())
		<-ctx.Done()
		return nil
	}
	report := filepath.Join(dir, "report")
	began := time.Now()
	if err := judge(ctx, o, sets, c.kubeconfig(), report); err != nil {
		return err
	}
	if o.keep != "" {
		if err := exec.Command("cp", "-r", report, o.keep).Run(); err != nil {
			return fmt.Errorf("keep the report: %w", err)
		}
	}
	return o.tell(sets, []string{filepath.Join(report, "junit.xml")}, time.Since(began))
}

// fullest is how full the disk of the machines may be at the start, in hundredths. Above 85 their nodes remove images, and then the specs' pods wait for
// images that nobody can pull.
const fullest = 84

// spaceFor refuses a folder for the machines whose disk is too full.
func spaceFor(dir string) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("look how full the disk of %s is: %w", dir, err)
	}
	if used := 100 - 100*fs.Bavail/fs.Blocks; used > fullest {
		return fmt.Errorf("the disk of %s is %d %% full: above 85 %% nodes remove images in the middle of a run; free some space, or set TMPDIR to a folder elsewhere, in memory for instance", dir, used)
	}
	return nil
}

// tell prints what came of the specs, and writes the page. Its error says that the run was not what it should be.
func (o options) tell(sets []set, reports []string, took time.Duration) error {
	specs, err := readReports(reports)
	if err != nil {
		return err
	}
	var focus *regexp.Regexp
	if o.focus != "" {
		if focus, err = regexp.Compile(o.focus); err != nil {
			return fmt.Errorf("-focus: %w", err)
		}
	}
	results := sort(sets, specs, focus)
	unexpected := show(os.Stdout, results, took)
	if o.write != "" {
		if err := writePage(o.write, results, o.commit); err != nil {
			return err
		}
	}
	if unexpected > 0 {
		return fmt.Errorf("%d things are wrong: the first lines of each are above, all of it is in the folder of -keep", unexpected)
	}
	return nil
}

// judge runs the suite. That specs fail is no error: the report tells.
func judge(ctx context.Context, o options, sets []set, kubeconfig, report string) error {
	if err := os.MkdirAll(report, 0o755); err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(report, "output.txt"))
	if err != nil {
		return err
	}
	defer out.Close()
	args := []string{"--no-color", fmt.Sprintf("--procs=%d", o.procs), "--timeout=" + o.limit.String(), "--junit-report=junit.xml", "--output-dir=" + report}
	if o.focus != "" {
		args = append(args, "--focus="+o.focus)
	} else {
		for _, s := range sets {
			for _, f := range s.focus {
				args = append(args, "--focus="+f)
			}
			for _, r := range s.skip {
				args = append(args, "--skip="+r.pattern)
			}
		}
	}
	args = append(args, filepath.Join(o.tools, "e2e.test"), "--", "--provider=skeleton", "--kubeconfig="+kubeconfig, "--kubectl-path="+filepath.Join(o.tools, "kubectl"),
		"--num-nodes=2", "--allowed-not-ready-nodes=0", "--node-os-distro=debian", "--disable-log-dump=true", "--dump-logs-on-failure=false",
		"--report-dir="+filepath.Join(report, "suite"))
	cmd := exec.CommandContext(ctx, filepath.Join(o.tools, "ginkgo"), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = time.Minute
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Dir = report
	err = cmd.Run()
	if _, stat := os.Stat(filepath.Join(report, "junit.xml")); stat != nil {
		said, _ := os.ReadFile(out.Name())
		return fmt.Errorf("the suite ended without a report: %w: %s", err, said[max(0, len(said)-4000):])
	}
	return ctx.Err()
}
