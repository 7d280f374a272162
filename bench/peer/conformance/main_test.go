package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const junit = `<?xml version="1.0"?>
<testsuites><testsuite name="s">
<testcase name="[SynchronizedBeforeSuite]" status="passed" time="1"></testcase>
<testcase name="[It] [sig-cli] a [Slow] [Conformance] [sig-cli, Slow, Conformance]" status="passed" time="2"></testcase>
<testcase name="[It] [sig-cli] b [Conformance]" status="failed" time="3"><failure message="line one&#xA;line two" type="failed"></failure></testcase>
<testcase name="[It] [sig-cli] c [Conformance]" status="timedout" time="3"><error message="late"></error></testcase>
<testcase name="[It] [sig-cli] d [Conformance]" status="skipped" time="0"><skipped message="skipped"></skipped></testcase>
<testcase name="[It] [sig-cli] g [Conformance]" status="timedout" time="9"><failure message="A suite timeout occurred"></failure></testcase>
<testcase name="[It] [sig-cli] e [Conformance]" status="skipped" time="0"><skipped message="skipped - needs 3 nodes"></skipped></testcase>
<testcase name="[It] [sig-cli] not of the suite" status="skipped" time="0"><skipped message="skipped"></skipped></testcase>
<testcase name="[It] [sig-apps] f [Conformance]" status="failed" time="0"><failure message="other"></failure></testcase>
</testsuite></testsuites>`

func TestReportToPage(t *testing.T) {
	dir := t.TempDir()
	report, page := filepath.Join(dir, "junit.xml"), filepath.Join(dir, "page.md")
	for name, text := range map[string]string{report: junit, page: "top\n<!-- begin all -->\nold\n<!-- end all -->\n<!-- begin cli -->\nold\n<!-- end cli -->\nbottom\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, err := parseSet("cli", "# of cli\nfocus x\nskip sig-cli. d # part 9: because\nfails sig-cli. c # part 7: slow\n")
	if err != nil {
		t.Fatal(err)
	}
	specs, err := readReport(report)
	if err != nil {
		t.Fatal(err)
	}
	results := sort([]set{s}, specs, nil)
	var said strings.Builder
	if n := show(&said, results, 0); n != 1 {
		t.Errorf("%d specs failed unexpectedly, want b alone: %s", n, said.String())
	}
	if err := writePage(page, results, "abc"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	want := `top
<!-- begin all -->

| owner | passed | failed | left out | judged |
|---|---:|---:|---:|---|
| cli | 1 | 2 | 3 | abc |
| all | 1 | 2 | 3 | |

<!-- end all -->
<!-- begin cli -->

## cli

At abc: passed 1, failed 2, left out 3.

Failed:

| spec | why |
|---|---|
| b | line one line two |
| c | part 7: slow |

Left out:

| spec | why |
|---|---|
| d | part 9: because |
| e | needs 3 nodes |
| g | the time of the run was over |

Passed:

- a [Slow]

<!-- end cli -->
bottom
`
	if string(got) != want {
		t.Errorf("the page is\n%s\nwant\n%s", got, want)
	}
}

// TestLaterRunsCount reads the report of a second run, which ran one of the specs again and skipped the others.
func TestLaterRunsCount(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "1.xml"), filepath.Join(dir, "2.xml")
	again := `<testsuites><testsuite><testcase name="[It] [sig-cli] b [Conformance]" status="passed"></testcase>
<testcase name="[It] [sig-cli] c [Conformance]" status="skipped"><skipped message="skipped"></skipped></testcase></testsuite></testsuites>`
	for name, text := range map[string]string{first: junit, second: again} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	specs, err := readReports([]string{first, second})
	if err != nil {
		t.Fatal(err)
	}
	status := map[string]string{}
	for _, s := range specs {
		status[s.Name] = s.Status
	}
	if len(specs) != 8 || status["[sig-cli] b [Conformance]"] != "passed" || status["[sig-cli] c [Conformance]"] != "timedout" {
		t.Errorf("%d specs: %v", len(specs), status)
	}
}

// TestRunsOfSeveralCommits tells of two runs in one section: each spec stands with what its run has judged.
func TestRunsOfSeveralCommits(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "1.xml"), filepath.Join(dir, "2.xml")
	again := `<testsuites><testsuite><testcase name="[It] [sig-cli] b [Conformance]" status="passed"></testcase></testsuite></testsuites>`
	for name, text := range map[string]string{first: junit, second: again} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	specs, err := readReports([]string{first, second + "=commit 2"})
	if err != nil {
		t.Fatal(err)
	}
	got := sort([]set{{owner: "cli"}}, specs, nil)[0].section("commit 1")
	want := `
## cli

At commit 1; commit 2: passed 2, failed 1, left out 3.

Failed at commit 1:

| spec | why |
|---|---|
| c | late |

Left out:

| spec | why |
|---|---|
| d | the time of the run was over |
| e | needs 3 nodes |
| g | the time of the run was over |

Passed at commit 1:

- a [Slow]

Passed at commit 2:

- b

`
	if got != want {
		t.Errorf("the section is\n%s\nwant\n%s", got, want)
	}
}

// TestRunThatProvesLittle: a run is not well that did not come to its specs, that judged none, or by which a set is out of date.
func TestRunThatProvesLittle(t *testing.T) {
	report := filepath.Join(t.TempDir(), "junit.xml")
	if err := os.WriteFile(report, []byte(junit), 0o644); err != nil {
		t.Fatal(err)
	}
	specs, err := readReport(report)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		rules, focus string
		wrong        int
		said         string
	}{
		{"focus sig-cli. [abc]\nskip sig-cli. d # part 9\nfails sig-cli. [bc] # known\n", "", 0, "passed 1, failed 2"},
		{"focus sig-cli. [abcdg]\nskip sig-cli. d # part 9\nfails sig-cli. [bc] # known\n", "", 1, "NOT RUN [sig-cli] g [Conformance]: the time of the run was over"},
		{"focus sig-cli. [abc]\nfails sig-cli. [bc] # known\n", "sig-cli. d", 1, "NOT RUN [sig-cli] d"},
		{"focus sig-cli. [abc]\nfails sig-cli. [abc] # known\n", "", 1, "PASSED, and its set says that it fails (known): take the line out of sets/cli.txt: [sig-cli] a"},
	} {
		s, err := parseSet("cli", tc.rules)
		if err != nil {
			t.Fatal(err)
		}
		var focus *regexp.Regexp
		if tc.focus != "" {
			focus = regexp.MustCompile(tc.focus)
		}
		var said strings.Builder
		if n := show(&said, sort([]set{s}, specs, focus), 0); n != tc.wrong || !strings.Contains(said.String(), tc.said) {
			t.Errorf("%s: %d things wrong, want %d and %q:\n%s", tc.rules, n, tc.wrong, tc.said, said.String())
		}
	}
	var said strings.Builder
	if n := show(&said, sort([]set{{owner: "cli"}}, nil, nil), 0); n != 1 || !strings.Contains(said.String(), "no spec was judged") {
		t.Errorf("a run of nothing: %d, %s", n, said.String())
	}
}

func TestFaultOfTheSuiteItself(t *testing.T) {
	report := filepath.Join(t.TempDir(), "junit.xml")
	if err := os.WriteFile(report, []byte(`<testsuites><testsuite><testcase name="[SynchronizedBeforeSuite]" status="failed"><failure message="no nodes"></failure></testcase></testsuite></testsuites>`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readReport(report); err == nil || !strings.Contains(err.Error(), "no nodes") {
		t.Errorf("the suite could not begin, and the report is read as %v", err)
	}
}

func TestSetsNeedReasons(t *testing.T) {
	for _, bad := range []string{"", "focus x\nskip y", "focus x\nfails y #", "focus (", "focus x\nforget y # z"} {
		if _, err := parseSet("cli", bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
