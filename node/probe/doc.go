// Package probe asks containers whether they have started, live and are ready.
//
// It owns the three ways of asking (http, tcp, exec) and the counting of answers against thresholds. It knows no pod and no
// runtime: a target address and an exec function are given to it.
//
// How data passes through: Next is pure and says when a container's probe is due, Do asks once, Observe counts the answer
// and gives the new state.
package probe
