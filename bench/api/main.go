// Command api measures our API against kube-apiserver with etcd, one of each, in one run: each load is given to one and then to the other, round
// after round. Beside each rate stands what an operation cost in processor time of the server processes (user and system; etcd's belongs to
// kube-apiserver's): the clients share the processors with the servers, so that is the sturdier of the two figures.
//
// Both servers speak TLS and know their clients by certificates. Ours is the whole control plane but the agent (bench/api/server), with its
// controllers and scheduler; theirs runs without controller-manager and scheduler, which are not measured. Clients are client-go's, each with a
// connection of its own and without a limit of its own; lists and watches are read and counted, not decoded.
//
//	go run ./bench/api [-rounds 3] [-loads 'create|get'] [-pods 10000] [-scale 1] [-dir DIR]
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"reconcile/bench/harness"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench/api:", err)
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	sides  []*side
	which  *regexp.Regexp
	rounds int
	scale  float64
	pods   int
	lines  []line
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	rounds := flag.Int("rounds", 3, "of each load on each side")
	only := flag.String("loads", "", "regular expression of the loads to run")
	dir := flag.String("dir", os.TempDir(), "folder on the disk that is used")
	pods := flag.Int("pods", 10000, "how many pods, and as many config maps, are made for the lists and the memory")
	scale := flag.Float64("scale", 1, "of the number of operations")
	flags := flag.String("server-flags", "", "further flags of our server (bench/api/server)")
	alone := flag.Bool("ours", false, "measure our server alone: to profile it")
	flag.Parse()
	which, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-loads: %w", err)
	}
	machine, err := harness.Machine()
	if err != nil {
		return err
	}
	fmt.Println(machine)
	work, err := os.MkdirTemp(*dir, "bench-api-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	b := &bench{which: which, rounds: *rounds, scale: *scale, pods: *pods}
	if !*alone {
		theirs, err := startTheirs(ctx, filepath.Join(work, "theirs"))
		if err != nil {
			return err
		}
		defer theirs.stop()
		b.sides = append(b.sides, theirs)
	}
	ours, err := startOurs(ctx, filepath.Join(work, "ours"), strings.Fields(*flags))
	if err != nil {
		return err
	}
	defer ours.stop()
	b.sides = append(b.sides, ours)
	for _, s := range b.sides {
		if err := s.prepare(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	b.memory("memory, idle", 0)
	if err := b.all(ctx); err != nil {
		return err
	}
	if len(b.sides) == 2 {
		b.table()
	}
	return nil
}

// output runs a program and returns what it prints.
func output(ctx context.Context, name string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// result is what one load was on one side in one round.
type result struct {
	ops  int
	took time.Duration
	cpu  time.Duration
	each []time.Duration // empty for what is no request and answer
	note string
}

// perOp is the servers' time for one operation, in microseconds.
func (r result) perOp() float64 { return float64(r.cpu.Microseconds()) / float64(r.ops) }

// pause is for how long both sides are left alone before the memory is looked at again.
const pause = 20 * time.Second

// all gives every load to both sides.
func (b *bench) all(ctx context.Context) error {
	fmt.Printf("%-44s %-14s %12s %12s %12s %14s\n", "load", "side", "a second", "p50 ms", "p99 ms", "CPU us/op")
	for _, l := range loads(b.pods) {
		if !b.which.MatchString(l.name) {
			continue
		}
		all := make([][]result, len(b.sides))
		for round := range b.rounds {
			for i, s := range b.sides {
				if round == 0 && l.before != nil {
					if err := l.before(ctx, s); err != nil {
						return fmt.Errorf("%s: %s: %w", s.name, l.name, err)
					}
				}
				r, err := l.measure(ctx, s, max(1, int(float64(l.ops)*b.scale)))
				if err != nil {
					return fmt.Errorf("%s: %s: %w", s.name, l.name, err)
				}
				all[i] = append(all[i], r)
			}
		}
		b.print(l, all)
		if l.memory != "" {
			b.memory(l.memory, 4)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return ctx.Err()
			}
			b.memory(fmt.Sprintf("%s, %s later", l.memory, pause), 4)
		}
	}
	return nil
}

// print writes the median of the rounds of all sides, and how the last compares with the first.
func (b *bench) print(l load, all [][]result) {
	row := line{name: l.name, aim: l.aim, late: l.late}
	name := l.name
	for i, rounds := range all {
		slices.SortFunc(rounds, func(x, y result) int { return cmp.Compare(x.perOp(), y.perOp()) })
		r := rounds[len(rounds)/2]
		var each []time.Duration
		for _, x := range rounds {
			each = append(each, x.each...)
		}
		c := cell{rate: float64(r.ops) / r.took.Seconds(), cost: r.perOp(), note: r.note}
		p50, p99 := "", ""
		if len(each) > 0 {
			slices.Sort(each)
			c.p50, c.p99 = each[len(each)/2], each[len(each)*99/100]
			p50, p99 = ms(c.p50), ms(c.p99)
		}
		row.cells = append(row.cells, c)
		fmt.Printf("%-44s %-14s %12.0f %12s %12s %14.1f  %s\n", name, b.sides[i].name, c.rate, p50, p99, c.cost, r.note)
		name = ""
	}
	if len(all) == 2 {
		fmt.Printf("%-44s ours costs 1/%.1f\n", "", row.factor())
	}
	b.lines = append(b.lines, row)
}

// memory writes how much is resident.
func (b *bench) memory(what string, aim float64) {
	row := line{name: what, aim: aim, memory: true}
	for _, s := range b.sides {
		mb, parts, err := s.resident()
		if err != nil {
			fmt.Fprintln(os.Stderr, errors.Join(fmt.Errorf("%s: %s", s.name, what), err))
			return
		}
		row.cells = append(row.cells, cell{cost: float64(mb), note: parts})
		fmt.Printf("%-44s %-14s %9d MB resident (%s)\n", what, s.name, mb, parts)
		what = ""
	}
	if len(b.sides) == 2 {
		fmt.Printf("%-44s ours takes 1/%.1f\n", "", row.factor())
	}
	b.lines = append(b.lines, row)
}
