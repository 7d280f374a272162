// Package loopback gives tests addresses of their own. It owns the choice of the address, and knows no servers: who asks for an address binds it, closes
// it and binds it again as it likes.
package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// Address is a loopback address with a port, IP:PORT, that nobody listens on, by TCP or UDP, and that nobody else will be given. A port that the kernel
// chose and that was closed again is another's soon, of a server that asks for any port or of any connection; so this one is below those that the kernel
// gives out (ip_local_port_range) and of nodePorts, at an address of the 16 million that others seldom use.
func Address() (addr string) {
	for range 100 {
		addr = fmt.Sprintf("127.%d.%d.%d:%d", 1+rand.IntN(250), rand.IntN(256), 1+rand.IntN(250), 20000+rand.IntN(10000))
		if free(addr) {
			break
		}
	}
	return addr
}

// free tells whether nobody has the address, or its port at all addresses.
func free(addr string) bool {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	_ = l.Close()
	p, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	_ = p.Close()
	return true
}
