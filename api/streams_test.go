package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"reconcile/api"
	"reconcile/api/apitest"
)

// openStream begins a stream by WebSocket on a connection of its own, and returns the server's answer.
func openStream(t *testing.T, s *apitest.Server, path string) (net.Conn, *bufio.Reader, *http.Response) {
	t.Helper()
	conn := rawConn(t, s)
	say(t, conn, "GET /api/v1/namespaces/default/pods/p1/"+path+" HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v4.channel.k8s.io, SPDY/3.1+portforward.k8s.io\r\n\r\n")
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return conn, r, res
}

const catStream = "exec?command=cat&stdin=true&stdout=true"

// held are this process's goroutines and open files.
func held(t *testing.T) (goroutines, files int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return runtime.NumGoroutine(), len(list)
}

// nothingIsLeft waits until the process holds no more than it did.
func nothingIsLeft(t *testing.T, goroutines, files int) {
	t.Helper()
	g, f := 0, 0
	eventually(t, "all goroutines and files to be given back", func() bool {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		g, f = held(t)
		return g <= goroutines && f <= files
	})
}

// TestTooManyStreams: a user may have so many streams open, of whatever kind, and one more when one has ended; who asks for too many is told so.
// It runs alone: it counts what the process holds.
func TestTooManyStreams(t *testing.T) {
	const most = 6
	s := startAgentWith(t, func(c *api.Config) { c.Limits.StreamsOfUser = most })
	warm, _, _ := openStream(t, s, catStream)
	warm.Close()
	goroutines, files := settledHolding(t)
	var conns []net.Conn
	for i := range most {
		path := []string{catStream, "portforward", "log?follow=true"}[i%3]
		var conn net.Conn
		if strings.HasPrefix(path, "log") {
			conn = rawConn(t, s)
			say(t, conn, "GET /api/v1/namespaces/default/pods/p1/"+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || res.StatusCode != http.StatusOK {
				t.Fatalf("%s: %v %v", path, res, err)
			}
		} else {
			var res *http.Response
			if conn, _, res = openStream(t, s, path); res.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("%s: %s", path, res.Status)
			}
		}
		conns = append(conns, conn)
	}
	conn, _, res := openStream(t, s, catStream)
	b, err := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") == "" || !strings.Contains(string(b), "6 streams to pods and nodes") {
		t.Errorf("one more: %s, Retry-After %q, %s, %v", res.Status, res.Header.Get("Retry-After"), b, err)
	}
	conn.Close()
	conns[0].Close()
	eventually(t, "room for another", func() bool {
		conn, _, res := openStream(t, s, catStream)
		if res.StatusCode != http.StatusSwitchingProtocols {
			conn.Close()
			return false
		}
		conns[0] = conn
		return true
	})
	for _, conn := range conns {
		conn.Close()
	}
	nothingIsLeft(t, goroutines, files)
}

// settledHolding is what the process holds when that no longer falls.
func settledHolding(t *testing.T) (goroutines, files int) {
	t.Helper()
	same := 0
	eventually(t, "the process to settle", func() bool {
		g, f := held(t)
		if same++; g != goroutines || f != files {
			same = 0
		}
		goroutines, files = g, f
		return same > 20
	})
	return goroutines, files
}

// talker says something on a stream again and again, and knows whether it was held up itself.
type talker struct {
	conn net.Conn
	stop chan struct{}
	wg   sync.WaitGroup
	// gap is the longest time between two words; lost how the stream ended, if it did.
	gap  time.Duration
	lost error
}

func newTalker(conn net.Conn) *talker {
	k := &talker{conn: conn, stop: make(chan struct{})}
	go func() { _, _ = io.Copy(io.Discard, conn) }() // the echo, until the connection ends
	k.wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for last := time.Now(); ; {
			// A frame of channel 0 with one byte, masked as the standard demands of clients (RFC 6455).
			if _, k.lost = conn.Write([]byte{0x82, 0x82, 0, 0, 0, 0, 0, 'x'}); k.lost != nil {
				return
			}
			k.gap = max(k.gap, time.Since(last))
			last = time.Now()
			select {
			case <-tick.C:
			case <-k.stop:
				return
			}
		}
	})
	return k
}

// end tells how it went.
func (k *talker) end() (gap time.Duration, lost error) {
	close(k.stop)
	k.wg.Wait()
	return k.gap, k.lost
}

// TestIdleStreams: streams on which nobody says anything are ended; one on which something is said goes on. Nothing is left
// of those that were ended. It runs alone: it counts what the process holds.
func TestIdleStreams(t *testing.T) {
	const limit = 2 * time.Second
	s := startAgentWith(t, func(c *api.Config) { c.Limits.StreamIdle = limit })
	warm, _, _ := openStream(t, s, catStream)
	warm.Close()
	goroutines, files := settledHolding(t)
	conn, _, res := openStream(t, s, catStream)
	if res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(res.Status)
	}
	talking := newTalker(conn)
	var idle []net.Conn
	for i := range 12 {
		conn, _, res := openStream(t, s, []string{catStream, "portforward"}[i%2])
		if res.StatusCode != http.StatusSwitchingProtocols {
			t.Fatal(res.Status)
		}
		idle = append(idle, conn)
	}
	for i, conn := range idle {
		closed(t, fmt.Sprintf("idle stream %d", i), conn)
		conn.Close()
	}
	if gap, lost := talking.end(); lost != nil && gap < limit/2 {
		t.Errorf("the stream on which something was said each %v was ended: %v", gap, lost)
	}
	conn.Close()
	nothingIsLeft(t, goroutines, files)
}

// TestAgentDoesNotAnswer: an agent that takes a connection and says nothing holds a stream for no longer than it may.
func TestAgentDoesNotAnswer(t *testing.T) {
	t.Parallel()
	s, ln := listenAsAgent(t, func(c *api.Config) { c.Limits.StreamAnswer = 300 * time.Millisecond })
	heard := make(chan int64, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		n, _ := io.Copy(io.Discard, conn) // until the server ends it
		heard <- n
	}()
	t.Cleanup(func() { ln.Close() })
	conn := rawConn(t, s)
	say(t, conn, "GET /api/v1/namespaces/default/pods/p1/"+catStream+" HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if got := closed(t, "a stream to an agent that says nothing", conn); got != "" {
		t.Errorf("the answer is %q", got)
	}
	if n := <-heard; n == 0 {
		t.Error("the agent was not asked")
	}
}
