package faulttest

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// table is what the tests of this process reported: one for the process, as the test binary's output is.
var table struct {
	mu   sync.Mutex
	rows []string
}

// Report adds a line to the table that Main prints at the end.
func Report(fault string, rounds int, v Verdict, outages []time.Duration) {
	row := fmt.Sprintf("%-34s %6d %9d %9d %8d %9d", fault, rounds, v.Operations, v.Writes, v.Unknown, v.Events)
	if len(outages) > 0 {
		row += fmt.Sprintf("   %8s %8s %8s", percentile(outages, 50), percentile(outages, 99), percentile(outages, 100))
	}
	table.mu.Lock()
	defer table.mu.Unlock()
	table.rows = append(table.rows, row)
}

// percentile is the p-th of durations, rounded for print; 100 is the greatest.
func percentile(list []time.Duration, p int) time.Duration {
	sorted := slices.Clone(list)
	slices.Sort(sorted)
	return sorted[min(len(sorted)-1, len(sorted)*p/100)].Round(time.Millisecond)
}

func printTable(w io.Writer) {
	table.mu.Lock()
	defer table.mu.Unlock()
	if len(table.rows) == 0 {
		return
	}
	fmt.Fprintf(w, "seed %d\n", chance().seed)
	fmt.Fprintf(w, "%-34s %6s %9s %9s %8s %9s   %8s %8s %8s\n", "fault", "rounds", "calls", "writes", "unknown", "events", "out p50", "p99", "max")
	for _, row := range table.rows {
		fmt.Fprintln(w, row)
	}
}
