// Package faulttest runs a store of three real processes through faults and judges what its clients saw.
//
// It owns the member processes (the test binary, started again: raftstore on a disk, the sequencer as the server has it, and a tiny
// key-value RPC), the network namespaces and the forgetful disk that they may be put on, the clients and watchers with their
// histories, and the judgement: porcupine over every operation, watches ordered, unique, without a gap and resumable, the same state on all
// members and after a restart. It may know everything.
//
// How a test is written:
//
//	func TestMain(m *testing.M) { faulttest.Main(m) }
//
//	func TestLeaderIsKilled(t *testing.T) {
//		c := faulttest.Start(t, faulttest.Config{})
//		load := c.Load(faulttest.LoadConfig{})
//		for range 30 {
//			l := c.Leader()
//			l.Kill()
//			load.Acknowledged(10 * time.Second) // a write that began after the kill
//			l.Start()
//		}
//		load.Finish(1000) // at least so many operations; fails the test if anything is wrong
//	}
//
// How data passes through: a client is pinned to one member, calls it over HTTP and notes call and return in one clock; watchers note
// every event. Finish stops them, waits until all members are at one revision and judges. A run that fails keeps histories,
// porcupine's picture and the members' logs in a folder that it prints. What nobody can tell (a timeout) may have happened or not, at
// any later time; porcupine's "unknown" is a failure, and so is a run with too few operations to prove anything.
package faulttest
