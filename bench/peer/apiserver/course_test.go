package apiserver

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// step is one request of a course.
type step struct {
	method, path string
	header       [][2]string
	body         string
	// save is the name under which later steps find the answer's revision ($name.rv), UID ($name.uid), continue token ($name.continue) and
	// name ($name.name).
	save string
	// where is the line of the file that the step stands at.
	where string
}

func (s step) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", s.method, s.path)
	for _, h := range s.header {
		fmt.Fprintf(&b, "\n> %s: %s", h[0], h[1])
	}
	if s.body != "" {
		b.WriteString("\n" + s.body)
	}
	if s.save != "" {
		b.WriteString("\n= " + s.save)
	}
	return b.String()
}

// course is what is played in one namespace, whose name is $ns in all steps.
type course struct {
	name  string
	steps []step
}

// readCourses reads the courses of testdata. A course begins with a line `== NAME`; its requests are paragraphs:
//
//	METHOD /path?query
//	> Header: value
//	= name
//	body, to the end of the paragraph
//
// A path that does not begin with / is one below the course's namespace in core v1; lines that begin with # are notes.
func readCourses(t testing.TB) []course {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no courses in testdata: %v", err)
	}
	var out []course
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		group := strings.TrimSuffix(filepath.Base(f), ".txt")
		var cur *step
		for i, line := range strings.Split(string(b), "\n") {
			where := fmt.Sprintf("%s:%d", f, i+1)
			switch {
			case strings.HasPrefix(line, "#"):
			case strings.HasPrefix(line, "== "):
				out = append(out, course{name: group + "/" + line[3:]})
				cur = nil
			case line == "":
				cur = nil
			case cur == nil:
				method, path, ok := strings.Cut(line, " ")
				if !ok || len(out) == 0 {
					t.Fatalf("%s: %q is no METHOD /path", where, line)
				}
				c := &out[len(out)-1]
				c.steps = append(c.steps, step{method: method, path: under(path), where: where})
				cur = &c.steps[len(c.steps)-1]
			case strings.HasPrefix(line, "> "):
				k, v, _ := strings.Cut(line[2:], ": ")
				cur.header = append(cur.header, [2]string{k, v})
			case strings.HasPrefix(line, "= "):
				cur.save = line[2:]
			case cur.body == "":
				cur.body = line
			default:
				cur.body += "\n" + line
			}
		}
	}
	return out
}

// under completes a path that is below the course's namespace.
func under(path string) string {
	if strings.HasPrefix(path, "/") {
		return path
	}
	return "/api/v1/namespaces/$ns/" + path
}
