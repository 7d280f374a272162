package runtime

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"reconcile/node/runtime/wire"
)

// Attach implements Runtime.
func (h *Host) Attach(ctx context.Context, id string, s Streams) error {
	e, err := h.get(id)
	if err != nil {
		return err
	}
	if c, _ := h.snapshot(e); c.State != Running {
		return fmt.Errorf("attach to container %s: %w", id, ErrNotRunning)
	}
	// The path of a socket has room for 108 bytes: it is reached through the folder's descriptor.
	dir, err := os.Open(h.dir(id))
	if err != nil {
		return fmt.Errorf("attach to container %s: %w", id, err)
	}
	defer dir.Close()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", filepath.Join("/proc/self/fd", strconv.Itoa(int(dir.Fd())), wire.AttachSock))
	if err != nil {
		return fmt.Errorf("attach to container %s: %w", id, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	f := frames{w: conn}
	if s.Stdin != nil {
		go f.copyInput(s.Stdin)
	}
	if s.Resize != nil {
		go func() {
			for sz := range s.Resize {
				var b [4]byte
				binary.BigEndian.PutUint16(b[:2], sz.Width)
				binary.BigEndian.PutUint16(b[2:], sz.Height)
				if f.send(wire.FrameResize, b[:]) != nil {
					return
				}
			}
		}()
	}
	err = receiveFrames(conn, s)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// frames writes whole frames from several goroutines.
type frames struct {
	mu sync.Mutex
	w  io.Writer
}

func (f *frames) send(kind byte, data []byte) error {
	b := make([]byte, wire.FrameHeader, wire.FrameHeader+len(data))
	b[0] = kind
	binary.BigEndian.PutUint32(b[1:], uint32(len(data)))
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.w.Write(append(b, data...))
	return err
}

func (f *frames) copyInput(r io.Reader) {
	buf := make([]byte, 8<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 && f.send(wire.FrameStdin, buf[:n]) != nil {
			return
		}
		if err != nil {
			_ = f.send(wire.FrameEOF, nil)
			return
		}
	}
}

// receiveFrames gives output to the streams until the container's shim closes the connection.
func receiveFrames(r io.Reader, s Streams) error {
	br := bufio.NewReaderSize(r, 32<<10)
	for {
		var head [wire.FrameHeader]byte
		if _, err := io.ReadFull(br, head[:]); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		w := s.Stdout
		if head[0] == wire.FrameStderr {
			w = s.Stderr
		}
		if w == nil {
			w = io.Discard
		}
		if _, err := io.CopyN(w, br, int64(binary.BigEndian.Uint32(head[1:]))); err != nil {
			return err
		}
	}
}
