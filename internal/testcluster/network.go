package testcluster

import (
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// network is the links between servers, one for each direction. A link is cut by closing its channel.
type network struct {
	mu         sync.Mutex
	transports []*raft.InmemTransport // nil: not running
	cut        map[[2]int]chan struct{}
	silent     map[int]bool
}

func (n *network) isSilent(i, j int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.silent[i] || n.silent[j]
}

func newNetwork(n int) *network {
	return &network{transports: make([]*raft.InmemTransport, n), cut: map[[2]int]chan struct{}{}, silent: map[int]bool{}}
}

func address(i int) raft.ServerAddress { return raft.ServerAddress(fmt.Sprintf("s%d", i)) }

// start gives server i a new transport, linked to all that run.
func (n *network) start(i int, timeout time.Duration, h hooks) *transport {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := newTransport(address(i), timeout, h)
	n.transports[i] = t.InmemTransport
	for j := range n.transports {
		n.joinLocked(i, j)
	}
	return t
}

func (n *network) joinLocked(i, j int) {
	if i == j || n.transports[i] == nil || n.transports[j] == nil {
		return
	}
	for _, way := range [][2]int{{i, j}, {j, i}} {
		if n.cut[way] == nil {
			n.transports[way[0]].Connect(address(way[1]), n.transports[way[1]])
			n.cut[way] = make(chan struct{})
		}
	}
}

func (n *network) cutAll(i int) {
	for j := range n.transports {
		n.cutOneWay(i, j)
		n.cutOneWay(j, i)
	}
}

// cutOneWay ends the link by which i asks j.
func (n *network) cutOneWay(i, j int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	ch := n.cut[[2]int{i, j}]
	if ch == nil {
		return
	}
	close(ch)
	delete(n.cut, [2]int{i, j})
	n.transports[i].Disconnect(address(j))
}

func (n *network) remove(i int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.transports[i] = nil
}

func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.silent)
	for i := range n.transports {
		for j := range i {
			n.joinLocked(i, j)
		}
	}
}

// link returns the channel that is closed when the link by which i asks j is cut.
func (n *network) link(i, j int) (<-chan struct{}, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	ch := n.cut[[2]int{i, j}]
	return ch, ch != nil
}
