package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"reconcile/internal/netnstest"
)

// TestSilentMachines: a tunnel whose client's machine loses its network without a word ends, whether or not something is under way to it, and so does
// one whose node's does.
func TestSilentMachines(t *testing.T) {
	lab := netnstest.New(t)
	lan := lab.Switch("lan")
	server := lab.Machine("server").Attach(lan, "eth0", "192.168.79.1/24")
	user := lab.Machine("user").Attach(lan, "eth0", "192.168.79.2/24")
	node := lab.Machine("node").Attach(lan, "eth0", "192.168.79.3/24")
	// join connects a machine with the server: near is the server's end.
	join := func(m *netnstest.Machine) (near, far net.Conn) {
		t.Helper()
		ln, err := server.Listen("192.168.79.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		if err := m.Do(func() error {
			far, err = net.Dial("tcp", ln.Addr().String())
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if near, err = ln.Accept(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { far.Close() })
		return near, far
	}
	for _, c := range []struct {
		name string
		lost *netnstest.Machine
		busy bool
		want string
	}{
		{"an idle client", user, false, "the client's machine confirms nothing"},
		{"a client that is being sent something", user, true, "the client's machine confirms nothing"},
		{"an idle node", node, false, "the node confirms nothing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer lab.Heal()
			client, fromUser := join(user)
			agent, fromNode := join(node)
			tun := tunnel{client: client, agent: agent, fromClient: client, limits: Limits{StreamAnswer: time.Hour, StreamIdle: time.Hour, StreamSilence: 3 * time.Second}}
			why := make(chan string, 1)
			go func() { why <- tun.run() }()
			for _, way := range [][2]net.Conn{{fromUser, fromNode}, {fromNode, fromUser}} {
				if _, err := way[0].Write([]byte("hello")); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(way[1], make([]byte, 5)); err != nil {
					t.Fatal(err)
				}
			}
			lab.Cut(c.lost, server)
			lab.Cut(server, c.lost)
			if c.busy {
				if _, err := fromNode.Write(bytes.Repeat([]byte("x"), 1<<10)); err != nil {
					t.Fatal(err)
				}
			}
			select {
			case got := <-why:
				// The system may end an idle one by itself, a moment before it is looked at.
				if got != c.want && (c.busy || got != "") {
					t.Errorf("it ended with %q, want %q", got, c.want)
				}
			case <-time.After(30 * time.Second):
				t.Fatal("the tunnel is still open")
			}
			// The one that is still there hears of it.
			alive := fromNode
			if c.lost == node {
				alive = fromUser
			}
			if err := alive.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := alive.Read(make([]byte, 1)); err == nil {
				t.Error("the other side heard something else than the end")
			} else if ne := (net.Error)(nil); errors.As(err, &ne) && ne.Timeout() {
				t.Error("the other side still waits")
			}
		})
	}
}

// TestSilentMachinesOfAnswers: an answer that goes on, as a followed log's, ends when the client's machine or the one that it comes from loses its network
// without a word.
func TestSilentMachinesOfAnswers(t *testing.T) {
	lab := netnstest.New(t)
	lan := lab.Switch("lan")
	server := lab.Machine("server").Attach(lan, "eth0", "192.168.80.1/24")
	user := lab.Machine("user").Attach(lan, "eth0", "192.168.80.2/24")
	node := lab.Machine("node").Attach(lan, "eth0", "192.168.80.3/24")
	behind, err := node.Listen("192.168.80.3:0")
	if err != nil {
		t.Fatal(err)
	}
	agent := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if http.NewResponseController(w).Flush() == nil {
			<-r.Context().Done() // it has nothing to say
		}
	}))
	agent.Listener.Close()
	agent.Listener = behind
	agent.Start()
	defer agent.Close()
	s := &Server{cfg: Config{Log: slog.New(slog.DiscardHandler), Limits: Limits{StreamSilence: 3 * time.Second}.filled()}}
	for _, c := range []struct {
		name string
		lost *netnstest.Machine
	}{{"client", user}, {"node", node}} {
		t.Run(c.name, func(t *testing.T) {
			defer lab.Heal()
			ln, err := server.Listen("192.168.80.1:0")
			if err != nil {
				t.Fatal(err)
			}
			over := make(chan error, 1)
			began := make(chan struct{})
			h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				r, end := s.keepVigil(r, "log")
				defer end()
				req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, agent.URL, http.NoBody)
				if err != nil {
					over <- err
					return
				}
				transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
					derr := server.Do(func() error { conn, err = (&net.Dialer{}).DialContext(ctx, network, address); return err })
					return conn, derr
				}}
				res, err := transport.RoundTrip(req)
				if err != nil {
					over <- err
					return
				}
				defer res.Body.Close()
				close(began)
				_, err = io.Copy(io.Discard, res.Body)
				over <- err
			})
			srv := HTTPServer(t.Context(), s.cfg, h)
			go func() { _ = srv.Serve(ln) }() // it ends with an error when it is closed
			defer srv.Close()
			var conn net.Conn
			if err := user.Do(func() error { conn, err = net.Dial("tcp", ln.Addr().String()); return err }); err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
			select {
			case <-began:
			case err := <-over:
				t.Fatal(err)
			}
			lab.Cut(c.lost, server)
			lab.Cut(server, c.lost)
			select {
			case err := <-over:
				if err == nil {
					t.Error("the answer came to its end")
				}
			case <-time.After(30 * time.Second):
				t.Fatal("the answer is still open")
			}
		})
	}
}
