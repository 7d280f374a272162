package apiserver

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"
)

var full = flag.Bool("judge.full", false, "print both answers whole where they differ")

// judge plays courses, some at once, and reports every step that the sides answer differently and that no reason is known for.
func judge(t *testing.T, peer, ours side, courses []course) {
	t.Helper()
	var mu sync.Mutex
	steps, known := 0, map[string]int{}
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(6)
	for i, c := range courses {
		g.Go(func() error {
			done, err := both(ctx, peer, ours, c, namespaceOf(i))
			if err != nil {
				if errors.Is(err, context.Canceled) {
					return nil
				}
				return fmt.Errorf("%s: %w", c.name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			for k, p := range done {
				steps++
				if !p.differs() {
					continue
				}
				if why := reason(p); why != "" {
					known[why]++
					continue
				}
				report(t, c, done[:k], p)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	t.Logf("%d courses, %d requests", len(courses), steps)
	for why, n := range known {
		t.Logf("%d known: %s", n, why)
	}
}

func namespaceOf(i int) string { return fmt.Sprintf("c%d", i) }

func report(t *testing.T, c course, before []played, p played) {
	t.Helper()
	var past strings.Builder
	if p.step.where == "" { // what was drawn is told with what went before it
		for _, b := range before {
			fmt.Fprintf(&past, "%s\n\n", b.step)
		}
	}
	if *full {
		t.Errorf("%s %s\n%s%s\n--- kube-apiserver\n%s--- ours\n%s", c.name, p.step.where, past.String(), p.step, p.peer, p.ours)
		return
	}
	t.Errorf("%s %s\n%s%s\n(- kube-apiserver, + ours)\n%s", c.name, p.step.where, past.String(), p.step,
		lines(strings.Split(p.peer, "\n"), strings.Split(p.ours, "\n")))
}

// lines tells by which lines two answers differ: -, those of the first alone, and +, those of the second.
func lines(a, b []string) string {
	longest := make([][]int, len(a)+1) // the length of the longest common part of a[i:] and b[j:]
	for i := range longest {
		longest[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				longest[i][j] = longest[i+1][j+1] + 1
			} else {
				longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			}
		}
	}
	var out strings.Builder
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && longest[i+1][j] >= longest[i][j+1]:
			fmt.Fprintf(&out, "- %s\n", a[i])
			i++
		default:
			fmt.Fprintf(&out, "+ %s\n", b[j])
			j++
		}
	}
	return out.String()
}

// TestFixedCourses plays what testdata says.
func TestFixedCourses(t *testing.T) {
	ours, s := startOurs(t)
	judge(t, startPeer(t, s.Authority), ours, readCourses(t))
}
