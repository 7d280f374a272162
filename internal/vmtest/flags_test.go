package vmtest

import (
	"bufio"
	"bytes"
	"slices"
	"testing"
)

func TestRewrite(t *testing.T) {
	a := rewrite([]string{"-test.v=true", "-test.coverprofile=c.out", "-test.outputdir=/o", "-test.testlogfile=/x", "-test.gocoverdir=/h", "-test.timeout=15m0s", "-test.run=A"})
	want := []string{"-test.v=true", "-test.coverprofile=" + guestProfile, "-test.gocoverdir=" + guestCoverDir, "-test.run=A"}
	if !slices.Equal(a.guest, want) || a.profile != "/o/c.out" || a.coverDir != "/h" {
		t.Errorf("got %+v", a)
	}
}

func TestReceive(t *testing.T) {
	var b bytes.Buffer
	f := &frames{w: &b}
	f.beat()()
	f.send(frameExit, []byte("3"))
	heard := 0
	hear := func() { heard++ }
	if code, err := receive(&b, arguments{}, hear); code != 3 || err != nil || heard < 2 {
		t.Errorf("exit frame: %d, %v, heard %d times", code, err, heard)
	}
	if _, err := receive(bytes.NewReader(nil), arguments{}, hear); err == nil {
		t.Error("a machine that sends nothing is no failure")
	}
	f.send('?', nil)
	if _, err := receive(&b, arguments{}, hear); err == nil {
		t.Error("an unknown frame is no failure")
	}
}

func TestCPIO(t *testing.T) {
	var b bytes.Buffer
	c := newCPIO(bufio.NewWriter(&b))
	if err := c.file("/a/b/c", 0o644, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	if b.Len()%4 != 0 || bytes.Count(b.Bytes(), []byte("070701")) != 4 {
		t.Errorf("%d bytes: %q", b.Len(), b.Bytes())
	}
}
