// Package controller holds the controllers, one file each, and Settle, which runs them until nothing changes.
//
// A controller is a pure function from a view, a key and a time to writes, a time to wake, events and reasons. It has no
// clock, no goroutine, no network, no random source and no memory: what it must remember is kept in objects. It owns no
// state; it declares the View it reads and the Overlay that Settle writes (view.go), and knows nothing of raft, of HTTP or
// of machines.
//
// How data passes through: changes of objects make triggers (Controller.Keys), Settle takes triggers off a queue in a
// fixed order, calls Reconcile, admits and applies its writes to the overlay, and goes on with the triggers those make,
// until the queue is empty or the budget of operations is spent. The same function serves the leader's sequencer, the
// plan and the simulation, which is why a plan is the truth.
package controller
