// Command floor measures what it costs a server at least to send an answer that is ready: processor time (user and system) of a process that does
// nothing but write the same bytes again and again, over TCP, over TLS, and over TLS and HTTP/2 with net/http. No list of as many bytes that is not
// compressed can cost less on the same machine.
//
//	go run ./bench/api/floor [-size 29300000] [-n 50]
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"reconcile/bench/harness"
	"reconcile/pki"
)

func main() {
	mode := flag.String("serve", "", "tcp, tls or h2: serve, which this program asks of itself")
	dir := flag.String("dir", "", "folder of the keys")
	size := flag.Int("size", 29_300_000, "of the answer in bytes")
	part := flag.Int("part", 256<<10-9, "of the answer that is written at once in bytes")
	n := flag.Int("n", 50, "how many answers")
	flag.Parse()
	var err error
	if *mode != "" {
		err = serve(*mode, *dir, make([]byte, *size), *part)
	} else {
		err = run(*size, *part, *n)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/api/floor:", err)
		os.Exit(1)
	}
}

// serve sends an answer for each byte that comes, or for each request, and prints its address first.
func serve(mode, dir string, answer []byte, part int) error {
	authority, err := pki.Open(pki.Config{Dir: dir})
	if err != nil {
		return err
	}
	id, err := authority.Identity(pki.ServerSpec("floor", []string{"127.0.0.1"}))
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	keys := pki.ServerTLS(id, authority.Pool())
	if mode == "h2" {
		s := &http.Server{TLSConfig: keys, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
			_ = write(w, answer, part) // the client may have gone
		})}
		return s.ServeTLS(ln, "", "")
	}
	c, err := ln.Accept()
	if err != nil {
		return err
	}
	if mode == "tls" {
		c = tls.Server(c, keys)
	}
	for asked := make([]byte, 1); ; {
		if _, err := io.ReadFull(c, asked); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := write(c, answer, part); err != nil {
			return err
		}
	}
}

func write(w io.Writer, b []byte, part int) error {
	for len(b) > 0 {
		n, err := w.Write(b[:min(part, len(b))])
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func run(size, part, n int) error {
	machine, err := harness.Machine()
	if err != nil {
		return err
	}
	fmt.Printf("%s; answers of %d bytes, written in parts of %d\n", machine, size, part)
	dir, err := os.MkdirTemp("", "bench-api-floor-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	authority, err := pki.Open(pki.Config{Dir: filepath.Join(dir, "pki")})
	if err != nil {
		return err
	}
	for _, mode := range []string{"tcp", "tls", "h2"} {
		ms, err := cost(mode, filepath.Join(dir, "pki"), authority, size, part, n)
		if err != nil {
			return fmt.Errorf("%s: %w", mode, err)
		}
		fmt.Printf("%-4s %6.1f ms of processor time an answer\n", mode, ms)
	}
	return nil
}

// cost is what an answer costs the server, in milliseconds of processor time.
func cost(mode, dir string, authority *pki.Authority, size, part, n int) (float64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	server := exec.Command(self, "-serve", mode, "-dir", dir, "-size", strconv.Itoa(size), "-part", strconv.Itoa(part))
	server.Stderr = os.Stderr
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := server.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := server.Start(); err != nil {
		return 0, err
	}
	err = answers(mode, out, authority, size, n)
	_ = server.Process.Kill()
	_ = server.Wait() // it was killed
	if err != nil {
		return 0, err
	}
	spent := server.ProcessState.UserTime() + server.ProcessState.SystemTime() // its start, of some milliseconds, is among it
	return spent.Seconds() * 1000 / float64(n), nil
}

// answers asks a server that prints its address for n answers.
func answers(mode string, out io.Reader, authority *pki.Authority, size, n int) error {
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return err
	}
	ask, err := client(mode, strings.TrimSpace(addr), authority, size)
	if err != nil {
		return err
	}
	for range n {
		if err := ask(); err != nil {
			return err
		}
	}
	return nil
}

// client returns what asks for one answer and reads it.
func client(mode, addr string, authority *pki.Authority, size int) (func() error, error) {
	admin, err := authority.Identity(pki.AdminSpec())
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority.PEM())
	keys := &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{admin.Cert}, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS13}
	if mode == "h2" {
		t := &http.Transport{TLSClientConfig: keys, ForceAttemptHTTP2: true, DisableCompression: true}
		return func() error {
			req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "https://"+addr, nil)
			if err != nil {
				return err
			}
			res, err := t.RoundTrip(req)
			if err != nil {
				return err
			}
			n, err := io.Copy(io.Discard, res.Body)
			if n != int64(size) {
				err = errors.Join(err, fmt.Errorf("%d bytes came", n))
			}
			return errors.Join(err, res.Body.Close())
		}, nil
	}
	var d net.Dialer
	c, err := d.DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	if mode == "tls" {
		keys.NextProtos = []string{pki.ProtoH2}
		c = tls.Client(c, keys)
	}
	return func() error {
		if _, err := c.Write([]byte{1}); err != nil {
			return err
		}
		_, err := io.CopyN(io.Discard, c, int64(size))
		return err
	}, nil
}
