// Command mutants plants each known bug (package mutant) and demands that the tests find it: it builds the tests with the bug's tag, runs
// those that should find it, and fails unless every one of them fails, for the right reason: what a failing test says must match what the bug
// does. A test that hangs, panics or does not build has found nothing. The same tests must pass without a bug.
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
	"regexp"
	"slices"
	"strings"
	"time"
)

// check is a run of tests that must fail, and what a failing test must say.
type check struct {
	pkg, run, says string
	env            []string
}

// bug is one mutant with the tests that must find it: one for each place that it is planted in.
type bug struct {
	tag, what string
	checks    []check
}

// within bounds one run of tests.
const within = 150 * time.Second

// pr is a shortened run at the figures before a merge.
var pr = []string{"FAULTS=pr", "FAULT_TIME=25s"}

var bugs = []bug{
	{"nosync", "no sync", []check{{"./internal/faulttest", "F3", "the data folder is damaged|not linearizable|states? differs?", pr}}},
	{"readstale", "read without barrier", []check{{"./internal/faulttest", "F2", "not linearizable: porcupine says Illegal", pr}}},
	{"ackearly", "acknowledged before committed", []check{{"./internal/faulttest", "F2", "not linearizable: porcupine says Illegal", pr}}},
	{"oldhash", "old hash not compared", []check{{"./sequencer", "Swapped", "pushes on the same commit won, want 1", nil}}},
	{"watchdrop", "a watch event dropped on reconnect", []check{
		{"./raftstore", "WatchGoesOn", `from revision \d+: \d+ events up to`, nil},
		{"./internal/faulttest", "F1", `a watch on \S+ from revision \d+ to \d+ told \d+ events of \d+; it left out`, nil},
	}},
	{"maporder", "map order in apply", []check{{"./raftstore", "StateMachine|Block", `key \S+ is \{.*\}, want \{`, nil}}},
	{"checksum", "checksum ignored", []check{
		{"./raftstore", "Flipped|Damage", `bit \d+ was flipped and nobody saw it`, nil},
		{"./raftstore/wal", "", `it was opened|entry \d+: <nil>`, nil},
	}},
	{"keephead", "speculative head kept after a failure", []check{{"./sequencer", "OnWhatFailed", "the request that changed nothing was answered with <nil>", nil}}},
	{"base", "base revision not checked", []check{{"./raftstore", "StateMachine|Stale", `an entry based on \d+ was taken at \d+`, nil}}},
	{"leasewall", "a lease expired by the wall clock", []check{
		{"./raftstore", "SettingOfTheClock", `lease \d+ is there: (true|false), want (true|false)`, nil},
		{"./sequencer", "SettingOfTheClock", `the lease is \S+ old by the cluster's time`, nil},
	}},
}

// result is what a run of tests came to.
type result string

const (
	passed  result = "not found: the tests pass"
	failed  result = "found"
	broken  result = "it does not build"
	crashed result = "not found: the tests hang or panic"
	other   result = "not found: the tests fail for another reason"
)

func main() {
	only := flag.String("run", "", "names of the bugs to try, separated by commas; empty for all")
	verbose := flag.Bool("v", false, "print what the tests print")
	flag.Parse()
	ctx := context.Background()
	good := true
	fmt.Printf("%-40s %-8s %-40s %s\n", "bug", "after", "by", "result")
	found, tried := 0, 0
	var clean []check
	for _, b := range bugs {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), b.tag) {
			continue
		}
		tried++
		all := true
		for _, c := range b.checks {
			began := time.Now()
			r, out := c.do(ctx, "mutant_"+b.tag)
			if *verbose || r != failed {
				fmt.Println(out)
			}
			fmt.Printf("%-40s %-8s %-40s %s\n", b.what, time.Since(began).Round(time.Second), c.name(), r)
			all = all && r == failed
			if !slices.ContainsFunc(clean, func(o check) bool { return o.name() == c.name() }) {
				clean = append(clean, c)
			}
		}
		if all {
			found++
		}
		good = good && all
	}
	fmt.Printf("%d of %d bugs were found\n", found, tried)
	for _, c := range clean {
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

func (c check) name() string {
	return strings.TrimSpace(c.pkg + " " + c.run)
}

// do runs the tests with a tag. Tests that do not build have found nothing.
func (c check) do(ctx context.Context, tag string) (result, string) {
	ctx, cancel := context.WithTimeout(ctx, within+time.Minute)
	defer cancel()
	tags := strings.TrimSpace("failpoints " + tag)
	if out, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", os.DevNull, "-tags", tags, c.pkg).CombinedOutput(); err != nil {
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
	err := cmd.Run()
	return c.judge(err == nil, out.String()), out.String()
}

// Lines of `go test`: a test that fails says why in lines that name the place; a panic is also what a timeout is.
var (
	says = regexp.MustCompile(`(?m)^\s+\w+_test\.go:\d+: .*$`)
	died = regexp.MustCompile(`(?m)^(panic|fatal error): `)
)

// judge tells what the output of a run means.
func (c check) judge(ok bool, out string) result {
	right := regexp.MustCompile(c.says)
	switch {
	case ok:
		return passed
	case died.MatchString(out):
		return crashed
	case strings.Contains(out, "--- FAIL: ") && slices.ContainsFunc(says.FindAllString(out, -1), right.MatchString):
		return failed
	}
	return other
}
