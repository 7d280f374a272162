package runtime

import (
	"io"
	"os"
	"strings"
)

// The most of a container's output that becomes its message: Kubernetes' bounds.
const (
	logEndBytes = 2048
	logEndLines = 80
)

// logEnd is the end of a log in the CRI format ("TIME STREAM TAG TEXT" a line) without what is not the container's own, or nothing.
func logEnd(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	// A line of the log has some fifty bytes more than the container wrote.
	const window = logEndBytes + logEndLines*64
	if st, err := f.Stat(); err == nil && st.Size() > window {
		if _, err := f.Seek(-window, io.SeekEnd); err != nil {
			return ""
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, window))
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	lines = lines[max(0, len(lines)-logEndLines):]
	var out strings.Builder
	for _, line := range lines {
		parts := strings.SplitN(line, " ", 4)
		if len(parts) < 4 || (parts[2] != "F" && parts[2] != "P") {
			continue // the first one may be cut off
		}
		out.WriteString(parts[3])
		if parts[2] == "F" {
			out.WriteByte('\n')
		}
	}
	text := out.String()
	return strings.ToValidUTF8(text[max(0, len(text)-logEndBytes):], "")
}
