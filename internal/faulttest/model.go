package faulttest

import (
	"fmt"
	"slices"

	"github.com/anishathalye/porcupine"
)

// forever is the return of an operation whose outcome nobody knows: it may take effect at any later time, or never.
const forever = int64(1) << 62

// operation is one call of one client, in nanoseconds since the load began.
type operation struct {
	Client int    `json:"client"`
	Member string `json:"member"`
	In     input  `json:"in"`
	Out    output `json:"out"`
	Call   int64  `json:"call"`
	Return int64  `json:"return"`
}

// register is what the history of each key must be a history of: one value, or "" for none.
var register = porcupine.Model{
	Partition: partition,
	Init:      func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		return step(state.(string), in.(input), out.(output))
	},
	DescribeOperation: func(in, out any) string { return describe(in.(input), out.(output)) },
	DescribeState:     func(state any) string { return fmt.Sprintf("%q", state) },
}

func partition(history []porcupine.Operation) [][]porcupine.Operation {
	parts := map[string][]porcupine.Operation{}
	for _, op := range history {
		k := op.Input.(input).Key
		parts[k] = append(parts[k], op)
	}
	var keys []string
	for k := range parts {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	out := make([][]porcupine.Operation, len(keys))
	for i, k := range keys {
		out[i] = parts[k]
	}
	return out
}

// step tells whether an answer is right in a state, and the state after it. An unknown write that would not have matched does nothing; one that
// never happened stands behind everything else.
func step(state string, in input, out output) (bool, string) {
	switch {
	case !in.writes():
		return out.Value == state, state
	case in.Kind == opPut, in.Kind == opDelete:
		return true, in.Value
	}
	matches := state == in.Expect
	switch {
	case out.Stale && in.overEtcd():
		return !matches && out.Value == state, state
	case out.Unknown != "" && !matches, out.Stale && !matches:
		return true, state
	case out.Stale || !matches:
		return false, state
	}
	return true, in.Value
}

func describe(in input, out output) string {
	s := in.Kind + " " + in.Key
	switch {
	case !in.writes():
		return fmt.Sprintf("%s = %q", s, out.Value)
	case in.Kind == opPut:
		s += fmt.Sprintf(" %q", in.Value)
	case in.Kind != opDelete:
		s += fmt.Sprintf(" %q -> %q", in.Expect, in.Value)
	}
	switch {
	case out.Stale && in.overEtcd():
		return fmt.Sprintf("%s: it is %q", s, out.Value)
	case out.Stale:
		return s + ": stale"
	case out.Unknown != "":
		return s + ": unknown"
	}
	return fmt.Sprintf("%s: revision %d", s, out.Rev)
}

// linearizable leaves out what certainly did not happen and what nobody saw, and asks porcupine. Of a history that is not, faulty tells the
// keys whose part of it is not.
func linearizable(ops []operation) (result porcupine.CheckResult, info porcupine.LinearizationInfo, faulty []string) {
	var history []porcupine.Operation
	for _, op := range ops {
		if op.Out.Failed != "" || (!op.In.writes() && op.Out.Unknown != "") {
			continue
		}
		ret := op.Return
		if op.Out.Unknown != "" {
			ret = forever
		}
		history = append(history, porcupine.Operation{ClientId: op.Client, Input: op.In, Output: op.Out, Call: op.Call, Return: ret})
	}
	if result, info = porcupine.CheckOperationsVerbose(register, history, judgeWithin); result == porcupine.Ok {
		return result, info, nil
	}
	for _, part := range partition(history) {
		if r := porcupine.CheckOperationsTimeout(register, part, judgeWithin/10); r != porcupine.Ok {
			faulty = append(faulty, fmt.Sprintf("%s (%s)", part[0].Input.(input).Key, r))
		}
	}
	return result, info, faulty
}
