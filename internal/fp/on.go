//go:build failpoints

package fp

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Enabled tells whether this build has failpoints.
const Enabled = true

// Variable names what is set when the process starts.
const Variable = "RECONCILE_FAILPOINTS"

// action is what happens at a place.
type action struct {
	sleep time.Duration
	exit  bool
	err   error
	skew  time.Duration
	from  int // the number of the hit from which on it happens
}

// registry is the one piece of state that belongs to the process and not to an object: a place in the code knows no test.
type registry struct {
	mu      sync.Mutex
	actions map[string]action
	hits    map[string]int
}

var points = sync.OnceValue(func() *registry {
	r := &registry{actions: map[string]action{}, hits: map[string]int{}}
	if err := r.set(os.Getenv(Variable)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return r
})

// Set replaces all actions by those of spec ("name=sleep:200ms;other=exit@3"); "" removes them. It is safe for concurrent use.
func Set(spec string) error { return points().set(spec) }

// Hits tells how often each place was passed since the process began.
func Hits() map[string]int {
	r := points()
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.hits)
}

func (r *registry) set(spec string) error {
	actions := map[string]action{}
	for part := range strings.SplitSeq(spec, ";") {
		if part == "" {
			continue
		}
		name, a, err := parse(part)
		if err != nil {
			return fmt.Errorf("failpoint %q: %w", part, err)
		}
		actions[name] = a
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, a := range actions {
		a.from += r.hits[name]
		actions[name] = a
	}
	r.actions = actions
	return nil
}

func parse(part string) (name string, a action, err error) {
	name, what, ok := strings.Cut(part, "=")
	if !ok {
		return "", a, errors.New("want NAME=ACTION")
	}
	a.from = 1
	if rest, n, ok := strings.Cut(what, "@"); ok {
		if a.from, err = strconv.Atoi(n); err != nil {
			return "", a, err
		}
		what = rest
	}
	verb, arg, _ := strings.Cut(what, ":")
	switch verb {
	case "sleep":
		a.sleep, err = time.ParseDuration(arg)
	case "skew":
		a.skew, err = time.ParseDuration(arg)
	case "exit":
		a.exit = true
	case "error":
		a.err = errors.New("failpoint " + name + ": " + arg)
	default:
		err = fmt.Errorf("unknown action %q", verb)
	}
	return name, a, err
}

func (r *registry) pass(name string) action {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hits[name]++
	a, ok := r.actions[name]
	if !ok || r.hits[name] < a.from {
		return action{}
	}
	return a
}

// Hit holds the process up, or kills it as kill -9 does, if that was asked for.
func Hit(name string) {
	a := points().pass(name)
	time.Sleep(a.sleep)
	if a.exit {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until the signal comes
	}
}

// Err is Hit, and returns the error that was asked for.
func Err(name string) error {
	a := points().pass(name)
	time.Sleep(a.sleep)
	return a.err
}

// Wall is the time of day, as the place "wall" puts it: "wall=skew:1h" is a machine whose clock was set one hour ahead. It has no monotonic
// reading, so that who measures a span with it measures the setting of the clock too.
func Wall() time.Time { return time.Now().Round(0).Add(points().pass("wall").skew) }
