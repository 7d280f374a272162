// Package proxytest has a semantic fake of the kernel load balancer, and the one suite that the fake, nftables and IPVS pass.
//
// It owns the fake (Fake), the small network that the suite is run in (an Env: real, by NewLab, or simulated, by NewFake), and what
// must be true of every kernel (Run). It knows proxy/model and proxy's Kernel interface, and no kernel of the real ones.
//
// How data passes through: the suite applies deltas to Env's kernel and sends connections from several places; what answers, and
// which client address it saw, is compared with what the state says.
package proxytest
