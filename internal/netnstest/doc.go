// Package netnstest makes machines out of network namespaces of one host, for tests: each Machine has its own interfaces, routes,
// firewall and ports, machines are joined by switches, and partitions are cut and healed.
//
// It owns the namespaces it makes (bound under /run/netns as rct-PID-N-NAME, so that `ip netns` shows them while a test hangs) and
// removes all of them, and what an earlier, killed test process left. It enters namespaces by setns on a locked thread, the network
// namespace only: never `ip netns exec`, which also gives the process another /sys and leaves dead names behind when nested. It
// touches nothing of the host's own namespace, and knows no kind of ours.
//
// How data passes through: a test makes a Lab, asks it for machines and switches, and runs functions (Machine.Do) and processes
// (Machine.Command) inside them.
//
//	lab := netnstest.New(t)
//	lan := lab.Switch("lan")
//	a := lab.Machine("a").Attach(lan, "eth0", "192.168.77.1/24")
//	b := lab.Machine("b").Attach(lan, "eth0", "192.168.77.2/24")
//	err := a.Do(func() error { return serve("192.168.77.1:80") })
//	out, err := b.Command(ctx, "ping", "-c1", "192.168.77.1").CombinedOutput()
//	lab.Cut(a, b) // b hears nothing of a; a still hears b
//	lab.Heal()
//
// Everything needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN); without it New skips the test and says so.
package netnstest
