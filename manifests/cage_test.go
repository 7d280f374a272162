package manifests

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reconcile/internal/needs"
)

// escape is what a program in the child's cage could do, if the cage were not there. An empty string is a success.
type escape struct {
	Read, Write, Dial, Send string
	User                    int
}

// escapeMain is run by the test binary in place of the evaluator: it confines itself as the evaluator does, and then tries to get out.
func escapeMain() {
	var target struct{ File, Dir, Address string }
	if err := json.NewDecoder(os.Stdin).Decode(&target); err != nil {
		panic(err)
	}
	if err := confine(); err != nil {
		panic(err)
	}
	var got escape
	_, err := os.ReadFile(target.File)
	got.Read = words(err)
	got.Write = words(os.Mkdir(filepath.Join(target.Dir, "x"), 0o700))
	c, err := net.DialTimeout("tcp", target.Address, 5*time.Second)
	if err == nil {
		c.Close()
	}
	got.Dial = words(err)
	l, err := net.Dial("udp", "192.0.2.1:53")
	if err == nil {
		l.Close()
	}
	got.Send = words(err)
	got.User = os.Getuid()
	if err := json.NewEncoder(os.Stdout).Encode(got); err != nil {
		panic(err)
	}
	os.Stdout.WriteString("{\"done\":true}\n")
}

func words(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestCage tries from within the child what CUE itself has no words for, should its evaluator have a hole: to read a file of the
// machine that everybody may read, to make a folder where everybody may, to reach a service of the machine, and another machine.
func TestCage(t *testing.T) {
	if os.Geteuid() != 0 {
		needs.Missing(t, "needs root: a child of another user gets no network and no root folder of its own")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o777), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	request, err := json.Marshal(map[string]string{"File": "/etc/passwd", "Dir": dir, "Address": l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	// Out of the cage, as root, all of it works: what fails below fails because of the cage.
	if _, err := os.ReadFile("/etc/passwd"); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	child := &Child{Command: []string{"/proc/self/exe", "escape"}}
	var got escape
	err = child.Evaluate(t.Context(), request, func(line []byte) error {
		if strings.Contains(string(line), "done") {
			return nil
		}
		return json.Unmarshal(line, &got)
	})
	if err != nil {
		t.Fatal(err)
	}
	for what, answer := range map[string][2]string{
		"read /etc/passwd":           {got.Read, "denied"},
		"make a folder":              {got.Write, "denied"},
		"connect to a local service": {got.Dial, "network is unreachable"},
		"reach another machine":      {got.Send, "network is unreachable"},
	} {
		if !strings.Contains(answer[0], answer[1]) {
			t.Errorf("%s: %q, want a failure with %q", what, answer[0], answer[1])
		}
	}
	if got.User != nobody {
		t.Errorf("the child runs as user %d, want %d", got.User, nobody)
	}
}
