package main

import (
	"fmt"
	"strings"
	"time"
)

// line is one row of the table at the end, with a cell for each side.
type line struct {
	name  string
	cells []cell
	// aim is the least factor by which ours is to be cheaper, 0 for none.
	aim    float64
	late   time.Duration
	memory bool
}

// cell is what one side took: the median of its rounds. cost is in microseconds of processor time an operation, or MB of memory.
type cell struct {
	rate, cost float64
	p50, p99   time.Duration
	note       string
}

// factor is how many times as much theirs costs as ours.
func (l line) factor() float64 { return l.cells[0].cost / l.cells[1].cost }

// goal is what was to be reached, and whether it was.
func (l line) goal() string {
	var out []string
	if l.aim > 0 {
		out = append(out, fmt.Sprintf("1/%.0f", l.aim))
		if l.factor() < l.aim {
			out[0] += ", missed"
		}
	}
	if l.late > 0 {
		late := fmt.Sprintf("p99 %s", l.late)
		if l.cells[1].p99 > l.late {
			late += ", missed"
		}
		out = append(out, late)
	}
	return strings.Join(out, "; ")
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()*1000) }

func (c cell) latency() string {
	if c.p99 == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f / %.1f", c.p50.Seconds()*1000, c.p99.Seconds()*1000)
}

// table writes all rows as Markdown.
func (b *bench) table() {
	fmt.Print("\n| load | a second: kube-apiserver, ours | p50 / p99 ms: kube-apiserver | ours | server CPU us an operation: kube-apiserver, ours | ours costs | aim |\n|-|-|-|-|-|-|-|\n")
	for _, l := range b.lines {
		if l.memory {
			continue
		}
		t, o := l.cells[0], l.cells[1]
		name := l.name
		if o.note != "" {
			name += fmt.Sprintf(" (%s, %s)", t.note, o.note)
		}
		fmt.Printf("| %s | %.0f, %.0f | %s | %s | %.1f, %.1f | **1/%.1f** | %s |\n", name, t.rate, o.rate, t.latency(), o.latency(), t.cost, o.cost, l.factor(), l.goal())
	}
	fmt.Print("\n| resident memory, MB | etcd and kube-apiserver | ours | ours takes | aim |\n|-|-|-|-|-|\n")
	for _, l := range b.lines {
		if l.memory {
			fmt.Printf("| %s | %.0f (%s) | %.0f | **1/%.1f** | %s |\n", l.name, l.cells[0].cost, l.cells[0].note, l.cells[1].cost, l.factor(), l.goal())
		}
	}
}
