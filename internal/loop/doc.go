// Package loop is the one generic loop behind everything here that reconciles: it runs one function again and again until what
// it looks after is as wanted.
//
// It owns when to run: a Trigger starts a run, triggers that come during a run or within the settle time are coalesced into one, a
// failed run is repeated with an exponential back-off, and a resync repeats a full run from time to time, so that a change made
// behind our back is seen. It owns what happened: Status and the Report function. It knows no kind, no kernel and no server.
//
// How data passes through: none does. The function given reads its own inputs; a Receiver notes what changed and calls Trigger.
package loop
