// Command mutants plants each known bug (package mutant) and demands that the tests find it: it builds the tests with the bug's tag, runs
// the cheapest that should find it, and fails unless every one of them fails. The same tests must pass without a bug.
//
//	go run ./internal/mutants [-run NAME,NAME] [-v]
//
// It owns no code that it judges. It prints a table and exits with 1 if a bug was not found or a test fails without one.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// check is a run of tests.
type check struct {
	pkg, run string
	env      []string
}

// bug is one mutant with the tests that should find it, cheapest first: the first that fails is enough.
type bug struct {
	tag, what string
	checks    []check
}

// within bounds one run of tests: a bug that makes a test hang is found, too.
const within = 150 * time.Second

// pr is a shortened run at the figures before a merge.
var pr = []string{"FAULTS=pr", "FAULT_TIME=25s"}

var bugs = []bug{
	{"nosync", "no sync", []check{{"./internal/faulttest", "F3", pr}}},
	{"readstale", "read without barrier", []check{{"./internal/testcluster", "Linearizable", nil}, {"./internal/faulttest", "F2", pr}}},
	{"ackearly", "acknowledged before committed", []check{{"./internal/faulttest", "F2", pr}, {"./sequencer", "", nil}}},
	{"oldhash", "old hash not compared", []check{{"./sequencer", "", nil}, {"./internal/faulttest", "F1", nil}}},
	{"watchdrop", "a watch event dropped on reconnect", []check{{"./raftstore", "WatchGoesOn", nil}, {"./internal/faulttest", "F1", nil}}},
	{"maporder", "map order in apply", []check{{"./raftstore", "StateMachine|Block", nil}}},
	{"checksum", "checksum ignored", []check{{"./raftstore", "Flipped|Damage", nil}, {"./raftstore/wal", "", nil}}},
	{"keephead", "speculative head kept after a failure", []check{{"./sequencer", "", nil}}},
	{"base", "base revision not checked", []check{{"./raftstore", "StateMachine|Stale", nil}}},
	{"leasewall", "a lease expired by the wall clock", []check{{"./raftstore", "Lease", nil}}},
}

// result is what a run of tests came to.
type result int

const (
	passed result = iota
	failed
	broken // did not build
)

func main() {
	only := flag.String("run", "", "names of the bugs to try, separated by commas; empty for all")
	verbose := flag.Bool("v", false, "print what the tests print")
	flag.Parse()
	ctx := context.Background()
	good := true
	clean := map[string]bool{}
	fmt.Printf("%-40s %-10s %-8s %s\n", "bug", "found", "after", "by")
	found, tried := 0, 0
	for _, b := range bugs {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), b.tag) {
			continue
		}
		tried++
		began := time.Now()
		by := ""
		for _, c := range b.checks {
			r, out := c.do(ctx, "mutant_"+b.tag)
			if *verbose || r == broken {
				fmt.Println(out)
			}
			if clean[c.name()] = clean[c.name()] || r == failed; r == failed {
				by = c.name()
				break
			}
		}
		if by == "" {
			good = false
			fmt.Printf("%-40s %-10s %-8s\n", b.what, "NO", time.Since(began).Round(time.Second))
			continue
		}
		found++
		fmt.Printf("%-40s %-10s %-8s %s\n", b.what, "yes", time.Since(began).Round(time.Second), by)
	}
	fmt.Printf("%d of %d bugs were found\n", found, tried)
	for _, c := range cleanChecks(clean) {
		if r, out := c.do(ctx, ""); r != passed {
			good = false
			fmt.Printf("without a bug, %s fails:\n%s\n", c.name(), out)
		}
	}
	if !good {
		os.Exit(1)
	}
	fmt.Println("the same tests pass without a bug")
}

// cleanChecks are the checks that failed with a bug, each once.
func cleanChecks(names map[string]bool) []check {
	var out []check
	for _, b := range bugs {
		for _, c := range b.checks {
			if names[c.name()] {
				names[c.name()] = false
				out = append(out, c)
			}
		}
	}
	return out
}

func (c check) name() string {
	return strings.TrimSpace(c.pkg + " " + c.run)
}

// do runs the tests with a tag. Tests that do not build have found nothing.
func (c check) do(ctx context.Context, tag string) (result, string) {
	ctx, cancel := context.WithTimeout(ctx, within+time.Minute)
	defer cancel()
	tags := strings.TrimSpace("failpoints " + tag)
	if out, err := exec.CommandContext(ctx, "go", "vet", "-tags", tags, c.pkg).CombinedOutput(); err != nil {
		return broken, string(out)
	}
	args := []string{"test", "-tags", tags, "-count", "1", "-timeout", within.String()}
	if c.run != "" {
		args = append(args, "-run", c.run)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, c.pkg)...)
	cmd.Env = append(os.Environ(), c.env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if cmd.Run() != nil {
		return failed, out.String()
	}
	return passed, out.String()
}
