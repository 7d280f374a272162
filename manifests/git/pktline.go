package git

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxPkt is the longest pkt-line with its length, and maxBand what one side-band line carries (gitprotocol-common).
const (
	maxPkt  = 65520
	maxBand = maxPkt - 5
)

// errFlush is what readPkt returns for a flush-pkt ("0000").
var errFlush = errors.New("flush-pkt")

// readPkt reads one pkt-line without its length. The bytes are the caller's. It returns io.EOF if there is nothing more.
func readPkt(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("read a pkt-line: its length is cut short")
		}
		return nil, err
	}
	n := 0
	for _, c := range head {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | int(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | int(c-'a'+10)
		case c >= 'A' && c <= 'F':
			n = n<<4 | int(c-'A'+10)
		default:
			return nil, fmt.Errorf("read a pkt-line: %q is no length", head)
		}
	}
	switch {
	case n == 0:
		return nil, errFlush
	case n < 4 || n > maxPkt:
		return nil, fmt.Errorf("read a pkt-line: a length of %d is out of range", n)
	}
	line := make([]byte, n-4)
	if _, err := io.ReadFull(r, line); err != nil {
		return nil, fmt.Errorf("read a pkt-line of %d bytes: %w", n, io.ErrUnexpectedEOF)
	}
	return line, nil
}

// appendPkt appends one pkt-line.
func appendPkt(dst []byte, format string, args ...any) []byte {
	at := len(dst)
	dst = append(dst, "0000"...)
	dst = fmt.Appendf(dst, format, args...)
	copy(dst[at:], fmt.Sprintf("%04x", len(dst)-at))
	return dst
}

func appendFlush(dst []byte) []byte { return append(dst, "0000"...) }

// capabilities are the words behind the first line's NUL.
type capabilities map[string]string

func parseCapabilities(s string) capabilities {
	caps := capabilities{}
	for _, word := range strings.Fields(s) {
		key, value, _ := strings.Cut(word, "=")
		caps[key] = value
	}
	return caps
}

func (c capabilities) has(name string) bool { _, ok := c[name]; return ok }

// commandList is what a client sends to receive-pack before the pack.
type commandList struct {
	commands []Command
	caps     capabilities
	options  []string
}

// readCommands reads the commands, and the push options if the client announced them. An empty list is the probe that git
// sends before a large chunked request. Lines that begin with "shallow" (several from a shallow clone) are read and dropped:
// whether the push hangs together is checked on the objects.
func readCommands(r io.Reader, limits Limits) (commandList, error) {
	var list commandList
	for first := true; ; {
		line, err := readPkt(r)
		if errors.Is(err, errFlush) {
			break
		}
		if errors.Is(err, io.EOF) && first {
			return list, nil
		}
		if err != nil {
			return list, fmt.Errorf("read the push's commands: %w", noEOF(err))
		}
		if bytes.HasPrefix(line, []byte("shallow ")) {
			continue
		}
		if first {
			var caps []byte
			line, caps, _ = bytes.Cut(line, []byte{0})
			list.caps = parseCapabilities(string(caps))
			first = false
		}
		cmd, err := parseCommand(strings.TrimSuffix(string(line), "\n"))
		if err != nil {
			return list, err
		}
		if list.commands = append(list.commands, cmd); len(list.commands) > limits.Commands {
			return list, fmt.Errorf("the push changes more than %d refs", limits.Commands)
		}
	}
	if !list.caps.has("push-options") {
		return list, nil
	}
	for {
		line, err := readPkt(r)
		if errors.Is(err, errFlush) {
			return list, nil
		}
		if err != nil {
			return list, fmt.Errorf("read the push options: %w", noEOF(err))
		}
		if list.options = append(list.options, strings.TrimSuffix(string(line), "\n")); len(list.options) > 64 {
			return list, fmt.Errorf("the push has more than 64 options")
		}
	}
}

// noEOF turns the end of input into an error that says that more was due.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// parseCommand reads OLD NEW REF.
func parseCommand(line string) (Command, error) {
	parts := strings.SplitN(line, " ", 3)
	if len(parts) != 3 {
		return Command{}, fmt.Errorf("%.80q is no command: want OLD NEW REF", line)
	}
	old, ok := ParseHash(parts[0])
	next, ok2 := ParseHash(parts[1])
	if !ok || !ok2 {
		return Command{}, fmt.Errorf("%.80q is no command: a hash has 40 hex digits", line)
	}
	if err := checkRef(parts[2]); err != nil {
		return Command{}, err
	}
	if old.IsZero() && next.IsZero() {
		return Command{}, fmt.Errorf("%s: both hashes are zero", parts[2])
	}
	return Command{Ref: parts[2], Old: old, New: next}, nil
}

// checkRef holds a ref's name against the rules of git-check-ref-format.
func checkRef(ref string) error {
	bad := func(why string) error { return fmt.Errorf("%.200q is no ref name: %s", ref, why) }
	rest, ok := strings.CutPrefix(ref, "refs/")
	switch {
	case !ok || !strings.Contains(rest, "/"):
		return bad("want refs/heads/NAME")
	case len(ref) > 255:
		return bad("it is longer than 255 bytes")
	case strings.Contains(ref, "..") || strings.Contains(ref, "@{") || strings.ContainsAny(ref, " ~^:?*[\\\x7f"):
		return bad("it holds a character that git refuses")
	}
	for _, c := range []byte(ref) {
		if c < 0x20 {
			return bad("it holds a control character")
		}
	}
	for part := range strings.SplitSeq(ref, "/") {
		if part == "" || part[0] == '.' || strings.HasSuffix(part, ".lock") || strings.HasSuffix(part, ".") {
			return bad("a part is empty, begins or ends with a dot, or ends with .lock")
		}
	}
	return nil
}
