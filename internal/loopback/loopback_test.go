package loopback

import (
	"net"
	"testing"
)

// TestFree: an address that somebody has by TCP or by UDP, there or at all addresses, is not free; Address gives one that is.
func TestFree(t *testing.T) {
	addr := Address()
	_, port, err := net.SplitHostPort(addr)
	if err != nil || !free(addr) {
		t.Fatalf("%s is given out: %v", addr, err)
	}
	for _, at := range []string{addr, ":" + port} {
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		if free(addr) {
			t.Errorf("%s is free while somebody listens on %s by TCP", addr, at)
		}
		_ = l.Close()
		p, err := net.ListenPacket("udp", at)
		if err != nil {
			t.Fatal(err)
		}
		if free(addr) {
			t.Errorf("%s is free while somebody listens on %s by UDP", addr, at)
		}
		_ = p.Close()
	}
}
