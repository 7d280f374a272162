package faulttest

import (
	"fmt"
	"io"
	"os"
	"slices"
	"testing"
	"time"
)

// tableVariable names the file that the tests of a process report to; Main makes it, prints it and removes it.
const tableVariable = "FAULT_TABLE"

// makeTable makes the file.
func makeTable() error {
	f, err := os.CreateTemp("", "faulttest-table-")
	if err != nil {
		return err
	}
	return firstOf(f.Close(), os.Setenv(tableVariable, f.Name()))
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Report adds a line to the table that Main prints at the end.
func Report(t testing.TB, fault string, rounds int, v Verdict, outages []time.Duration) {
	t.Helper()
	row := fmt.Sprintf("%-34s %6d %9d %9d %8d %9d", fault, rounds, v.Operations, v.Writes, v.Unknown, v.Events)
	if len(outages) > 0 {
		row += fmt.Sprintf("   %8s %8s %8s", percentile(outages, 50), percentile(outages, 99), percentile(outages, 100))
	}
	f, err := os.OpenFile(os.Getenv(tableVariable), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatalf("report: %v", err)
	}
	_, err = fmt.Fprintln(f, row)
	if err := firstOf(err, f.Close()); err != nil {
		t.Fatalf("report: %v", err)
	}
}

// percentile is the p-th of durations, rounded for print; 100 is the greatest.
func percentile(list []time.Duration, p int) time.Duration {
	sorted := slices.Clone(list)
	slices.Sort(sorted)
	return sorted[min(len(sorted)-1, len(sorted)*p/100)].Round(time.Millisecond)
}

// printTable prints what was reported, and removes the file.
func printTable(w io.Writer) error {
	rows, err := os.ReadFile(os.Getenv(tableVariable))
	if err := firstOf(err, os.Remove(os.Getenv(tableVariable))); err != nil || len(rows) == 0 {
		return err
	}
	_, err = fmt.Fprintf(w, "seed %s\n%-34s %6s %9s %9s %8s %9s   %8s %8s %8s\n%s", os.Getenv(SeedVariable),
		"fault", "rounds", "calls", "writes", "unknown", "events", "out p50", "p99", "max", rows)
	return err
}
