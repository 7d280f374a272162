package raftstore

import "io"

// readAhead reads from another reader in a goroutine of its own, a few blocks before they are asked for, so that reading, decompressing
// and building a state take a processor each. Close it in the end.
type readAhead struct {
	full chan aheadBlock
	free chan []byte
	stop chan struct{}
	done chan struct{}
	now  aheadBlock
	at   int
}

// aheadBlock is what one turn has read. err is what ended the reading, after these bytes.
type aheadBlock struct {
	b   []byte
	err error
}

// aheadBlocks is how many blocks are read before they are asked for, aheadSize how large one is.
const (
	aheadBlocks = 4
	aheadSize   = 256 << 10
)

func newReadAhead(r io.Reader) *readAhead {
	a := &readAhead{full: make(chan aheadBlock, aheadBlocks+1), free: make(chan []byte, aheadBlocks+1), stop: make(chan struct{}), done: make(chan struct{})}
	for range aheadBlocks + 1 {
		a.free <- make([]byte, aheadSize)
	}
	go a.run(r)
	return a
}

func (a *readAhead) run(r io.Reader) {
	defer close(a.done)
	for {
		select {
		case <-a.stop:
			return
		case b := <-a.free:
			n, err := io.ReadFull(r, b)
			if err == io.ErrUnexpectedEOF { //nolint:errorlint // ReadFull's own: the last block
				err = io.EOF
			}
			// It has room for all blocks that there are: nobody has to read for this to end.
			a.full <- aheadBlock{b[:n], err}
			if err != nil {
				return
			}
		}
	}
}

// Read implements io.Reader.
func (a *readAhead) Read(p []byte) (int, error) {
	for a.at == len(a.now.b) {
		if a.now.err != nil {
			return 0, a.now.err
		}
		if a.now.b != nil {
			a.free <- a.now.b[:aheadSize]
		}
		a.now, a.at = <-a.full, 0
	}
	n := copy(p, a.now.b[a.at:])
	a.at += n
	return n, nil
}

// Close ends the goroutine and returns when it has ended.
func (a *readAhead) Close() {
	close(a.stop)
	<-a.done
}
