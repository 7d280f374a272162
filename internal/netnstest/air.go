package netnstest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Weather is what happens to packets on their way in one direction. The zero value brings each at once.
type Weather struct {
	// Loss, Duplicate and Reorder are probabilities: that a packet is lost, comes twice, or overtakes those that are delayed.
	Loss, Duplicate, Reorder float64
	// Delay is how long a packet takes; Jitter what is added or taken away at most, so that packets overtake each other.
	Delay, Jitter time.Duration
}

// Air is a network between machines that this process carries packet by packet, for what the kernel of the tests may lack (netem): loss, delay,
// reordering and duplication, in each direction for itself. Machines have a TUN device on it. Its methods are safe for concurrent use.
type Air struct {
	lab  *Lab
	mu   sync.Mutex
	dice *rand.Rand
	// ports are the devices by their machine's address, weather that from the first machine to the second.
	ports   map[[4]byte]*airPort
	weather map[[2]*Machine]Weather
	wg      sync.WaitGroup
}

// airPort is one machine's device.
type airPort struct {
	m    *Machine
	file *os.File
}

// Air makes a network that nothing is attached to. seed decides what happens to which packet, as far as packets come in the same order.
func (l *Lab) Air(seed uint64) *Air {
	a := &Air{lab: l, dice: rand.New(rand.NewPCG(seed, 0)), ports: map[[4]byte]*airPort{}, weather: map[[2]*Machine]Weather{}}
	l.t.Cleanup(a.close)
	return a
}

// Fly joins m to the air by an interface of the given name with the given address ("192.168.77.1/24"). It returns m.
func (m *Machine) Fly(a *Air, ifname, cidr string) *Machine {
	m.lab.t.Helper()
	ip, _, err := net.ParseCIDR(cidr)
	if err != nil || ip.To4() == nil {
		m.lab.t.Fatalf("address %q for %s: %v; want one of IPv4", cidr, m.Name, err)
	}
	var file *os.File
	if err := m.Do(func() (err error) { file, err = openTUN(ifname); return }); err != nil {
		m.lab.t.Fatalf("make the interface %s of %s: %v", ifname, m.Name, err)
	}
	m.Addr(ifname, cidr)
	m.Link(ifname, func(h *netlink.Handle, link netlink.Link) error { return h.LinkSetUp(link) })
	p := &airPort{m: m, file: file}
	a.mu.Lock()
	a.ports[[4]byte(ip.To4())] = p
	a.mu.Unlock()
	a.wg.Go(func() { a.carry(p) })
	return m
}

// openTUN makes a TUN device in this thread's network namespace: its file reads and writes IP packets, one at a time.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Set makes the weather from one machine to another; the other direction stays.
func (a *Air) Set(from, to *Machine, w Weather) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.weather[[2]*Machine{from, to}] = w
}

// Clear makes all weather good. Packets that are under way still come.
func (a *Air) Clear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.weather)
}

// carry brings what a machine sends to those it is for, until the device is closed.
func (a *Air) carry(from *airPort) {
	buf := make([]byte, 1<<16)
	for {
		n, err := from.file.Read(buf)
		if err != nil {
			return
		}
		if n < 20 || buf[0]>>4 != 4 {
			continue // not IPv4
		}
		to, times := a.fate(from, [4]byte(buf[16:20]))
		for _, d := range times {
			packet := append([]byte(nil), buf[:n]...)
			if d == 0 {
				to.take(packet)
				continue
			}
			time.AfterFunc(d, func() { to.take(packet) })
		}
	}
}

// take gives a packet to the machine. A device that is full or closed loses it, as networks do.
func (p *airPort) take(packet []byte) { _, _ = p.file.Write(packet) }

// fate tells for whom a packet is and after which times it comes there: never, once or twice.
func (a *Air) fate(from *airPort, ip [4]byte) (to *airPort, times []time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if to = a.ports[ip]; to == nil {
		return nil, nil
	}
	w := a.weather[[2]*Machine{from.m, to.m}]
	if a.dice.Float64() < w.Loss {
		return to, nil
	}
	times = append(times, a.delayLocked(w))
	if a.dice.Float64() < w.Duplicate {
		times = append(times, a.delayLocked(w))
	}
	return to, times
}

func (a *Air) delayLocked(w Weather) time.Duration {
	if a.dice.Float64() < w.Reorder {
		return 0
	}
	return max(0, w.Delay+time.Duration((2*a.dice.Float64()-1)*float64(w.Jitter)))
}

func (a *Air) close() {
	a.mu.Lock()
	for _, p := range a.ports {
		if err := p.file.Close(); err != nil {
			a.lab.t.Errorf("close a device of the air: %v", err)
		}
	}
	a.mu.Unlock()
	a.wg.Wait()
}
