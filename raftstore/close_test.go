package raftstore

import (
	"context"
	"testing"
	"time"
)

// TestCloseEndsUnansweredFutures asks raft to verify its lead after it has shut down: about half of the questions land in a queue that
// nobody reads any more. Close must not wait for their answers.
func TestCloseEndsUnansweredFutures(t *testing.T) {
	s := openOne(t, "", MemoryStorage(), nil)
	if err := s.raft.Shutdown().Error(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 40 {
		if err := s.await(ctx, s.raft.VerifyLeader()); err == nil {
			t.Fatal("a member that has shut down verified its lead")
		}
	}
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Errorf("Close: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Close still waits for answers that cannot come")
	}
}
