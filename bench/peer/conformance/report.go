package main

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// spec is one spec of the suite's JUnit report.
type spec struct {
	Name    string  `xml:"name,attr"`
	Status  string  `xml:"status,attr"`
	Seconds float64 `xml:"time,attr"`
	Skipped *struct {
		Message string `xml:"message,attr"`
	} `xml:"skipped"`
	Failure *struct {
		Message string `xml:"message,attr"`
	} `xml:"failure"`
	Error *struct {
		Message string `xml:"message,attr"`
	} `xml:"error"`
	// at is what was judged; empty if the report does not say.
	at string
}

// readReport returns the specs of a report, without the hooks of the suite. Those that were not chosen are among them.
func readReport(path string) ([]spec, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the suite's report: %w", err)
	}
	var doc struct {
		Suites []struct {
			Specs []spec `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("read the suite's report %s: %w", path, err)
	}
	var out []spec
	for _, s := range doc.Suites {
		for _, sp := range s.Specs {
			name, ok := strings.CutPrefix(sp.Name, "[It] ")
			if !ok {
				if sp.Failure != nil || sp.Error != nil {
					return nil, fmt.Errorf("the suite itself failed in %s: %s", sp.Name, sp.said())
				}
				continue
			}
			sp.Name = name
			if strings.Contains(sp.said(), "A suite timeout occurred") {
				// It was under way when the time was over: it neither passed nor failed.
				sp.Status, sp.Failure, sp.Error = "skipped", nil, nil
			}
			out = append(out, sp)
		}
	}
	return out, nil
}

// readReports reads several reports as one: of the runs of a spec the last counts. Behind a path may stand "=" and what the run has judged.
func readReports(paths []string) ([]spec, error) {
	var out []spec
	place := map[string]int{}
	for _, path := range paths {
		path, at, _ := strings.Cut(path, "=")
		specs, err := readReport(path)
		if err != nil {
			return nil, err
		}
		for _, s := range specs {
			s.at = at
			i, had := place[s.Name]
			switch {
			case !had:
				place[s.Name] = len(out)
				out = append(out, s)
			case s.Status != "skipped" || out[i].Status == "skipped" && s.said() != "":
				out[i] = s
			}
		}
	}
	return out, nil
}

// said is the suite's first line about a spec that failed or that found that it cannot be run.
func (s spec) said() string {
	text := ""
	switch {
	case s.Failure != nil:
		text = s.Failure.Message
	case s.Error != nil:
		text = s.Error.Message
	case s.Skipped != nil:
		text = strings.TrimPrefix(strings.TrimPrefix(s.Skipped.Message, "skipped"), " - ")
	}
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	return text
}

// result is what came of the specs of one owner, each list sorted by name.
type result struct {
	owner                       string
	passed, failed, left, known []verdict
	// missed are those of left that were to be run and were not, mended those of passed that their set says fail.
	missed, mended []verdict
}

// verdict is one spec with what is to be told about it: why it was left out, or failed.
type verdict struct {
	name, why, at string
	seconds       float64
}

// overtime is why a spec was not run that nothing speaks against.
const overtime = "the time of the run was over"

// sort deals the specs of the sets out. known are those that failed as their set says. focus is what was chosen instead of the sets' own choices, nil if
// nothing was.
func sort(sets []set, specs []spec, focus *regexp.Regexp) []result {
	var out []result
	for _, s := range sets {
		r := result{owner: s.owner}
		for _, sp := range specs {
			if !strings.HasPrefix(sp.Name, "[sig-"+s.owner+"]") || !strings.Contains(sp.Name, "[Conformance]") {
				continue
			}
			v := verdict{name: sp.Name, at: sp.at, seconds: sp.Seconds}
			why, known := find(s.fails, sp.Name)
			reason, _ := find(s.skip, sp.Name)
			switch {
			case sp.Status == "passed":
				r.passed = append(r.passed, v)
				if known {
					v.why = why
					r.mended = append(r.mended, v)
				}
			case sp.Status == "skipped" || sp.Status == "pending":
				v.why = cmp.Or(reason, sp.said(), overtime)
				r.left = append(r.left, v)
				if v.why == overtime && s.chooses(sp.Name, focus) {
					r.missed = append(r.missed, v)
				}
			case known:
				v.why = why
				r.known = append(r.known, v)
			default:
				v.why = sp.said()
				r.failed = append(r.failed, v)
			}
		}
		for _, list := range [][]verdict{r.passed, r.failed, r.left, r.known} {
			slices.SortFunc(list, func(a, b verdict) int { return strings.Compare(a.name, b.name) })
		}
		out = append(out, r)
	}
	return out
}

// show prints the figures of each owner and what is wrong, and returns how much is: specs that failed and are not known to, that were to be run and were
// not, that pass though their set says they fail, and a run that judged nothing.
func show(w io.Writer, results []result, took time.Duration) int {
	unexpected, judged := 0, 0
	for _, r := range results {
		fmt.Fprintf(w, "%s: %s\n", r.owner, r.figures())
		for _, v := range r.failed {
			fmt.Fprintf(w, "  FAILED %s\n         %s\n", v.name, v.why)
		}
		for _, v := range r.known {
			fmt.Fprintf(w, "  failed as known %s: %s\n", v.name, v.why)
		}
		for _, v := range r.missed {
			fmt.Fprintf(w, "  NOT RUN %s: %s\n", v.name, v.why)
		}
		for _, v := range r.mended {
			fmt.Fprintf(w, "  PASSED, and its set says that it fails (%s): take the line out of sets/%s.txt: %s\n", v.why, r.owner, v.name)
		}
		unexpected += len(r.failed) + len(r.missed) + len(r.mended)
		judged += len(r.passed) + len(r.failed) + len(r.known)
	}
	if judged == 0 {
		fmt.Fprintln(w, "no spec was judged")
		unexpected++
	}
	fmt.Fprintf(w, "within %s\n", took.Round(time.Second))
	return unexpected
}

func (r result) figures() string {
	return fmt.Sprintf("passed %d, failed %d, left out %d", len(r.passed), len(r.failed)+len(r.known), len(r.left))
}

// writePage writes the sections of the owners of results anew, each between two marks, and the table of all owners.
func writePage(path string, results []result, commit string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	page := string(b)
	for _, r := range results {
		if page, err = replace(page, r.owner, r.section(commit)); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	if page, err = replace(page, "all", table(page)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(page), 0o644)
}

// replace puts text between the marks of a name.
func replace(page, name, text string) (string, error) {
	begin, end := "<!-- begin "+name+" -->\n", "<!-- end "+name+" -->"
	before, rest, ok := strings.Cut(page, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return "", fmt.Errorf("no marks %s and %s", strings.TrimSpace(begin), end)
	}
	return before + begin + text + end + after, nil
}

// section tells of one owner: first what does not pass, with the reason, then what does. Where several runs are told of as one, each spec stands with
// what its own run has judged.
func (r result) section(commit string) string {
	judged := r.judged(commit)
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %s\n\nAt %s: %s.\n\n", r.owner, strings.Join(judged, "; "), r.figures())
	list := func(title string, all []verdict) {
		if len(all) == 0 {
			return
		}
		fmt.Fprintf(&b, "%s:\n\n| spec | why |\n|---|---|\n", title)
		for _, v := range all {
			fmt.Fprintf(&b, "| %s | %s |\n", r.short(v.name), strings.ReplaceAll(v.why, "|", `\|`))
		}
		b.WriteString("\n")
	}
	for _, at := range judged {
		list("Failed"+where(judged, at), of(append(slices.Clone(r.failed), r.known...), commit, at))
	}
	list("Left out", r.left)
	for _, at := range judged {
		passed := of(r.passed, commit, at)
		if len(passed) == 0 {
			continue
		}
		fmt.Fprintf(&b, "Passed%s:\n\n", where(judged, at))
		for _, v := range passed {
			fmt.Fprintf(&b, "- %s\n", r.short(v.name))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// judged is what the specs that were run have judged, sorted; commit is meant where a report does not say.
func (r result) judged(commit string) []string {
	out := []string{}
	for _, v := range slices.Concat(r.passed, r.failed, r.known) {
		out = append(out, cmp.Or(v.at, commit))
	}
	if len(out) == 0 {
		return []string{commit}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// of are the verdicts on what was judged.
func of(all []verdict, commit, at string) []verdict {
	return slices.DeleteFunc(slices.Clone(all), func(v verdict) bool { return cmp.Or(v.at, commit) != at })
}

// where tells in a title what was judged, if the section has more than one.
func where(judged []string, at string) string {
	if len(judged) == 1 {
		return ""
	}
	return " at " + at
}

// short is a spec's name without what all names of the section share.
func (r result) short(name string) string {
	name = strings.TrimPrefix(name, "[sig-"+r.owner+"] ")
	name = labels.ReplaceAllString(name, "")
	return strings.NewReplacer(" [Conformance]", "", "|", `\|`).Replace(name)
}

// labels are those that ginkgo lists behind a name, which says them already.
var labels = regexp.MustCompile(` \[[^\[\]]*, Conformance\]$`)

var summary = regexp.MustCompile(`(?m)^## (\S+)\n\nAt (.*): passed (\d+), failed (\d+), left out (\d+)\.$`)

// table is the figures of all sections of a page.
func table(page string) string {
	var b strings.Builder
	b.WriteString("\n| owner | passed | failed | left out | judged |\n|---|---:|---:|---:|---|\n")
	var sum [3]int
	for _, m := range summary.FindAllStringSubmatch(page, -1) {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", m[1], m[3], m[4], m[5], m[2])
		for i := range sum {
			n := 0
			//nolint:errcheck // the pattern has only digits there
			fmt.Sscan(m[3+i], &n)
			sum[i] += n
		}
	}
	fmt.Fprintf(&b, "| all | %d | %d | %d | |\n\n", sum[0], sum[1], sum[2])
	return b.String()
}
