// Package testcluster runs a whole control plane in one process under testing/synctest: real raft, real stores, real sequencers, fake
// machines. An hour of cluster time takes seconds, and no test sleeps in real time.
//
// It owns the servers (raftstore and sequencer each, on storage in memory or in a folder), the network between them, which a test
// can cut in pieces and heal, the fake nodes (a kubelet that follows its pods and reports them Running and Ready), and the history:
// every acknowledged write and every event of every observer, kept in a file when the test fails. It may know everything.
//
// How a test is written:
//
//	func TestLeaderDies(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			c := testcluster.Start(t, testcluster.Config{Nodes: 50})
//			c.Submit(t.Context(), testcluster.Any, req)   // by any server, again while none takes it
//			c.Kill(c.Leader().Index)
//			c.Submit(…)
//			c.Restart(0)
//			c.Settled()                                    // all servers equal, every acknowledged write there
//		})
//	}
//
// What is not real: the wire (raft's InmemTransport; forwarded messages are calls), the machines, and the disk if storage is in memory. A
// killed server's storage is as it was at that moment; what a power cut loses is the business of the tests with processes. Runs
// are not repeatable from a seed, for raft draws its timeouts from the process's random source: the history is the evidence.
package testcluster
