// Command store measures the store against etcd in one run: both clusters are on this machine's disk, and each load is given to one and then to
// the other, round after round. Beside each rate stands what an operation cost in processor time of the server processes (user and system):
// where the client shares the processors with the servers, that is the sturdier of the two figures.
//
// The loads are those of etcd's own benchmark, but where it is the client that is measured: fan-out to many watches is counted by a thin client
// (watchers.go). It measures bare members (bench/store/member: store, sequencer and etcd's API, wired as the server wires them, without
// controllers and TLS) against etcd with its defaults, without TLS.
//
//	go run ./bench/store [-members 3,1] [-rounds 3] [-loads put] [-keys 100000,1000000]
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench/store:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	members := flag.String("members", "3,1", "of each cluster: one run for each number")
	rounds := flag.Int("rounds", 3, "of each load on each cluster")
	only := flag.String("loads", "", "regular expression of the loads and measurements to run")
	dir := flag.String("dir", os.TempDir(), "folder on the disk that is measured")
	keys := flag.String("keys", "100000", "fill both with so many keys of 1 KiB in the end, and look at memory and start: for each number in clusters of their own")
	profile := flag.String("member-flags", "", "further flags of our members; {id} in them is the member's number")
	scale := flag.Float64("scale", 1, "of the number of operations")
	flag.Parse()
	which, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-loads: %w", err)
	}
	out, err := exec.CommandContext(ctx, "scripts/etcd-tools.sh").Output()
	if err != nil {
		return fmt.Errorf("build etcd's tools: %w", err)
	}
	tools := strings.TrimSpace(string(out))
	work, err := os.MkdirTemp(*dir, "bench-store-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	bin := filepath.Join(work, "member")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", bin, "./bench/store/member").CombinedOutput(); err != nil {
		return fmt.Errorf("build the member: %w: %s", err, out)
	}
	b := &bench{etcd: filepath.Join(tools, "etcd"), tool: filepath.Join(tools, "benchmark"), member: bin, flags: strings.Fields(*profile),
		dir: work, which: which, rounds: *rounds, scale: *scale}
	sizes, err := numbers(*members)
	if err != nil {
		return fmt.Errorf("-members: %w", err)
	}
	many, err := numbers(*keys)
	if err != nil {
		return fmt.Errorf("-keys: %w", err)
	}
	for _, n := range sizes {
		if !b.loaded() {
			break
		}
		if err := b.with(ctx, n, b.loads); err != nil {
			return err
		}
	}
	for _, k := range many {
		if !which.MatchString("keys") {
			continue
		}
		for _, n := range sizes {
			if k > mostKeys && n > 1 {
				continue // three members of each kind with so many keys do not fit into most machines
			}
			if err := b.with(ctx, n, func(ctx context.Context) error { return b.size(ctx, k) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// mostKeys is up to how many keys clusters of more than one member are filled.
const mostKeys = 200_000

// numbers reads a list of numbers.
func numbers(list string) (out []int, err error) {
	for _, f := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
		n, err := strconv.Atoi(f)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is no number above 0", f)
		}
		out = append(out, n)
	}
	return out, nil
}

// with starts clusters of n members, and stops them after do.
func (b *bench) with(ctx context.Context, n int, do func(context.Context) error) error {
	dir, err := os.MkdirTemp(b.dir, "")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	etcd, err := startEtcd(ctx, b.etcd, filepath.Join(dir, "etcd"), n)
	if err != nil {
		return err
	}
	defer etcd.stop()
	ours, err := startOurs(ctx, b.member, filepath.Join(dir, "ours"), n, b.flags)
	if err != nil {
		return err
	}
	defer ours.stop()
	b.clusters = []*cluster{etcd, ours}
	return do(ctx)
}

// loaded tells whether anything of loads is wanted.
func (b *bench) loaded() bool {
	names := []string{"snapshot", "outage"}
	for _, l := range loads() {
		names = append(names, l.name)
	}
	for _, f := range fans() {
		names = append(names, f.name())
	}
	return slices.ContainsFunc(names, b.which.MatchString)
}

// loads gives all loads to the clusters, and makes what measurements they serve.
func (b *bench) loads(ctx context.Context) error {
	for _, c := range b.clusters {
		if err := fill(ctx, c); err != nil {
			return fmt.Errorf("fill %s: %w", c.name, err)
		}
	}
	n := len(b.clusters[0].endpoints)
	fmt.Printf("\n%d members each, %d rounds, medians; load average %s\n\n", n, b.rounds, loadAverage())
	fmt.Printf("| load | etcd/s | ours/s | ratio | etcd CPU us/op | ours CPU us/op | ratio |\n|-|-|-|-|-|-|-|\n")
	for _, l := range loads() {
		if b.which.MatchString(l.name) {
			if err := b.measure(ctx, l.name, func(ctx context.Context, c *cluster) (figure, error) { return b.once(ctx, c, l) }); err != nil {
				return err
			}
		}
	}
	for _, w := range fans() {
		if b.which.MatchString(w.name()) {
			if err := b.measure(ctx, w.name(), func(ctx context.Context, c *cluster) (figure, error) { return w.run(ctx, c, b.scale) }); err != nil {
				return err
			}
		}
	}
	fmt.Println()
	for _, c := range b.clusters {
		fmt.Printf("%s: resident memory of the members %v MiB\n", c.name, c.resident())
	}
	if b.which.MatchString("snapshot") {
		if err := b.snapshots(ctx); err != nil {
			return err
		}
	}
	if n > 1 && b.which.MatchString("outage") {
		if err := b.outages(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("\nload average %s\n", loadAverage())
	return nil
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}

// load is one call of the benchmark.
type load struct {
	name  string
	args  []string
	total int
	// events is how many events an operation makes: rates count them.
	events int
	leader bool
}

func loads() []load {
	clients := func(n int) []string {
		return []string{"--clients", strconv.Itoa(n), "--conns", strconv.Itoa(min(n, 100))}
	}
	put := func(n, size, total int) load {
		return load{name: fmt.Sprintf("put %d B, %d clients", size, n), total: total, leader: n == 1,
			args: append(clients(n), "put", "--val-size", strconv.Itoa(size), "--key-space-size", "100000", "--sequential-keys")}
	}
	with := func(name string, n, total int, args ...string) load {
		return load{name: fmt.Sprintf("%s, %d clients", name, n), total: total, args: append(clients(n), args...), leader: n == 1}
	}
	return []load{
		put(1, 256, 2000), put(16, 256, 12000), put(128, 256, 30000), put(1000, 256, 60000),
		put(1, 1024, 2000), put(16, 1024, 8000), put(128, 1024, 20000), put(1000, 1024, 30000),
		with("txn of 1 put", 128, 20000, "txn-put", "--key-space-size", "100000", "--val-size", "256"),
		with("txn of 16 puts", 128, 5000, "txn-put", "--key-space-size", "100000", "--val-size", "256", "--txn-ops", "16"),
		with("compare and swap (stm)", 32, 10000, "stm", "--keys", "1000", "--val-size", "256"),
		with("get linearizable", 1, 3000, "range", "r/00000001"),
		with("get linearizable", 128, 40000, "range", "r/00000001"),
		with("get serializable", 128, 40000, "range", "r/00000001", "--consistency", "s"),
		with("range of 10k", 4, 200, "range", "r/", "r0", "--limit", "10000"),
		with("lease renewal", 64, 20000, "lease-keepalive"),
		watch("one event at a time to 1,000 watches", 1, 300, 1000, 1, 1),
		watch("one event at a time to 10,000 watches, ten a stream", 1, 30, 10000, 10, 1),
		watch("1,000 watches each of its own key, 64 writers", 64, 20000, 1, 1, 1000),
	}
}

// watch is the load of a thousand streams that watch keys, while clients write them.
func watch(name string, writers, total, events, each, keys int) load {
	return load{name: "watch, " + name, total: total, events: events, args: []string{"--clients", strconv.Itoa(writers), "--conns", "20",
		"watch", "--streams", "1000", "--watch-per-stream", strconv.Itoa(each), "--watched-key-total", strconv.Itoa(keys), "--key-space-size", strconv.Itoa(keys)}}
}

// bench gives loads to clusters.
type bench struct {
	// etcd, tool (etcd's benchmark) and member are the programs, flags further ones of our members.
	etcd, tool, member string
	flags              []string
	dir                string
	which              *regexp.Regexp
	rounds             int
	scale              float64
	// clusters are etcd's and ours.
	clusters []*cluster
}

// figure is one measurement.
type figure struct{ rate, cost float64 }

// measure gives a load to the clusters in turn and prints a row.
func (b *bench) measure(ctx context.Context, name string, once func(context.Context, *cluster) (figure, error)) error {
	found := make([][]figure, len(b.clusters))
	for round := range b.rounds {
		for i := range b.clusters {
			k := (i + round) % len(b.clusters) // neither is always the first
			f, err := once(ctx, b.clusters[k])
			if err != nil {
				return fmt.Errorf("%s on %s: %w", name, b.clusters[k].name, err)
			}
			found[k] = append(found[k], f)
		}
	}
	e, o := median(found[0]), median(found[1])
	fmt.Printf("| %s | %.0f | %.0f | **%.2f** | %.4g | %.4g | **%.2f** |\n", name, e.rate, o.rate, o.rate/e.rate, e.cost, o.cost, o.cost/e.cost)
	return nil
}

// median takes rate and cost each by itself.
func median(list []figure) figure {
	pick := func(of func(figure) float64) float64 {
		slices.SortFunc(list, func(a, b figure) int { return cmp.Compare(of(a), of(b)) })
		return (of(list[len(list)/2]) + of(list[(len(list)-1)/2])) / 2
	}
	return figure{pick(func(f figure) float64 { return f.rate }), pick(func(f figure) float64 { return f.cost })}
}

func (b *bench) once(ctx context.Context, c *cluster, l load) (figure, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	total := max(int(float64(l.total)*b.scale), 10)
	args := []string{"--endpoints", strings.Join(c.endpoints, ",")}
	if l.leader {
		args = append(args, "--target-leader")
	}
	args = append(args, l.args...)
	if slices.Contains(l.args, "watch") {
		args = append(args, "--put-total", strconv.Itoa(total))
	} else {
		args = append(args, "--total", strconv.Itoa(total))
	}
	before := c.cpu()
	began := time.Now()
	out, err := exec.CommandContext(ctx, b.tool, args...).Output()
	took := time.Since(began).Seconds()
	spent := c.cpu() - before
	if err != nil {
		return figure{}, fmt.Errorf("%w: %s", err, out)
	}
	ops := float64(total * max(l.events, 1))
	rate := ops / took
	if rates := rateOf.FindAllStringSubmatch(string(out), -1); len(rates) > 0 {
		// The last part of a watch's output is about the events that arrived.
		if r, err := strconv.ParseFloat(rates[len(rates)-1][1], 64); err == nil {
			rate = r
		}
	}
	return figure{rate: rate, cost: spent.Seconds() * 1e6 / ops}, nil
}

var rateOf = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
