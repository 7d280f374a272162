package faulttest

import (
	"strings"
	"testing"

	"github.com/anishathalye/porcupine"
)

func put(call, ret int64, value string, rev uint64) operation {
	return operation{In: input{Kind: opPut, Key: "/kv/k", Value: value}, Out: output{Rev: rev}, Call: call, Return: ret}
}

func get(call, ret int64, value string) operation {
	return operation{Client: 1, In: input{Kind: opGet, Key: "/kv/k"}, Out: output{Value: value}, Call: call, Return: ret}
}

func unknown(op operation) operation {
	op.Out = output{Unknown: "timeout"}
	return op
}

func failed(op operation) operation {
	op.Out = output{Failed: "no leader"}
	return op
}

func cas(call, ret int64, expect, value string, stale bool) operation {
	op := operation{Client: 2, In: input{Kind: opCAS, Key: "/kv/k", Expect: expect, Value: value}, Call: call, Return: ret}
	if op.Out.Stale = stale; !stale {
		op.Out.Rev = uint64(call)
	}
	return op
}

// txn is one that did not write, and what it found.
func txn(call, ret int64, expect, value, found string) operation {
	return operation{Client: 3, In: input{Kind: opEtcdTxn, Key: "/kv/k", Expect: expect, Value: value}, Out: output{Stale: true, Value: found}, Call: call, Return: ret}
}

// The judge must say no to every kind of wrong history, and yes to the right ones beside them.
func TestJudgeOfOperations(t *testing.T) {
	for _, tt := range []struct {
		name string
		ops  []operation
		want porcupine.CheckResult
	}{
		{"a read sees the last write", []operation{put(1, 2, "a", 1), put(3, 4, "b", 2), get(5, 6, "b")}, porcupine.Ok},
		{"a stale read", []operation{put(1, 2, "a", 1), put(3, 4, "b", 2), get(5, 6, "a")}, porcupine.Illegal},
		{"a lost write", []operation{put(1, 2, "a", 1), get(3, 4, "")}, porcupine.Illegal},
		{"an unknown write is seen late", []operation{unknown(put(1, 2, "a", 0)), get(3, 4, ""), get(5, 6, "a")}, porcupine.Ok},
		{"an unknown write is seen and gone", []operation{unknown(put(1, 2, "a", 0)), get(3, 4, "a"), get(5, 6, "")}, porcupine.Illegal},
		{"what did not happen is seen", []operation{failed(put(1, 2, "a", 0)), get(3, 4, "a")}, porcupine.Illegal},
		{"two compare-and-swaps of one value", []operation{cas(1, 4, "", "a", false), cas(2, 5, "", "b", false)}, porcupine.Illegal},
		{"the second is stale", []operation{cas(1, 4, "", "a", false), cas(2, 5, "", "b", true), get(6, 7, "a")}, porcupine.Ok},
		{"stale without a reason", []operation{put(1, 2, "a", 1), cas(3, 4, "a", "b", true), get(5, 6, "a")}, porcupine.Illegal},
		{"an unknown compare-and-swap that did not match", []operation{put(1, 2, "a", 1), unknown(cas(3, 4, "z", "b", false)), get(5, 6, "a")}, porcupine.Ok},
		{"a transaction tells what it found", []operation{put(1, 2, "a", 1), txn(3, 4, "z", "b", "a")}, porcupine.Ok},
		{"a transaction tells what was there before", []operation{put(1, 2, "a", 1), put(3, 4, "b", 2), txn(5, 6, "z", "c", "a")}, porcupine.Illegal},
		{"a transaction fails though it matches", []operation{put(1, 2, "a", 1), txn(3, 4, "a", "b", "a")}, porcupine.Illegal},
		{"a torn pair", []operation{{In: input{Kind: opPairGet, Key: "/kv/k"}, Out: output{Value: "torn"}, Call: 1, Return: 2}}, porcupine.Illegal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if have, _, _ := linearizable(tt.ops); have != tt.want {
				t.Errorf("porcupine says %s, want %s", have, tt.want)
			}
		})
	}
}

func TestJudgeOfWatches(t *testing.T) {
	at := func(rev uint64, value string) event { return event{Rev: rev, Key: "/kv/k", Value: value} }
	whole := []event{at(1, "a"), at(2, "b"), at(3, "c"), {Rev: 4}}
	for _, tt := range []struct {
		name   string
		from   uint64
		events []event
		ops    []operation
		want   string // "" is right
	}{
		{name: "the same", events: whole},
		{name: "resumed", from: 2, events: []event{at(3, "c")}},
		{name: "one left out", from: 1, events: []event{at(3, "c")}, want: "left out [2] "},
		{name: "one left out at the end", from: 1, events: []event{at(2, "b"), {Rev: 4}}, want: "left out [3] "},
		{name: "twice", events: []event{at(1, "a"), at(1, "a")}, want: "told 1 (/kv/k) after"},
		{name: "out of order", events: []event{at(2, "b"), at(1, "a")}, want: "told 1 (/kv/k) after"},
		{name: "from before the beginning", from: 2, events: []event{at(2, "b")}, want: "told 2 (/kv/k) after"},
		{name: "another value", events: []event{at(1, "z")}, want: "was {key:/kv/k value:a"},
		{name: "a bookmark goes back", events: []event{{Rev: 3}, {Rev: 1}}, want: "went back"},
		{name: "an acknowledged write is there", ops: []operation{put(1, 2, "b", 2)}},
		{name: "an acknowledged write is not", ops: []operation{put(1, 2, "z", 4)}, want: "no watch told of revision 4"},
		{name: "another write is there", ops: []operation{put(1, 2, "z", 3)}, want: "but was acknowledged as"},
		{name: "one revision twice", ops: []operation{put(1, 2, "b", 2), put(1, 2, "b", 2)}, want: "two writes were acknowledged with revision 2"},
		{name: "a delete without effect", ops: []operation{{In: input{Kind: opDelete, Key: "/kv/k"}, Out: output{Rev: 4}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLedger()
			first := l.open("m1", 0)
			for _, e := range whole {
				l.take(first, e)
			}
			s := l.open("m2", tt.from)
			for _, e := range tt.events {
				l.take(s, e)
			}
			have := strings.Join(l.check(tt.ops), "; ")
			if (tt.want == "") != (have == "") || !strings.Contains(have, tt.want) {
				t.Errorf("the judge says %q, want %q", have, tt.want)
			}
		})
	}
}

func TestJudgeOfLocks(t *testing.T) {
	held := func(token uint64, call, ret, until int64) hold {
		return hold{Token: token, Call: call, Return: ret, Until: until}
	}
	for _, tt := range []struct {
		name   string
		holds  []hold
		guards []guarded
		want   string // "" is right
	}{
		{name: "one after the other", holds: []hold{held(9, 5, 6, 7), held(3, 1, 2, 4)}},
		{name: "known late", holds: []hold{held(3, 1, 8, 4), held(9, 5, 6, 7)}},
		{name: "of two locks", holds: []hold{held(3, 1, 2, 9), {Lock: 1, Token: 4, Call: 3, Return: 4, Until: 8}}},
		{name: "two at once", holds: []hold{held(3, 1, 2, 9), held(4, 3, 4, 8)}, want: "while another held it"},
		{name: "two at once, a third between", holds: []hold{held(3, 1, 2, 9), held(4, 3, 10, 11), held(5, 5, 6, 7)}, want: "while another held it"},
		{name: "one token twice", holds: []hold{held(3, 1, 2, 2), held(3, 3, 4, 4)}, want: "one token"},
		{name: "a token that goes back", holds: []hold{held(9, 1, 2, 2), held(3, 5, 6, 6)}, want: "tokens do not grow"},
		{name: "guarded in order", guards: []guarded{{0, 9, 4}, {0, 8, 4}, {0, 5, 3}}},
		{name: "written by who had the lock before", guards: []guarded{{0, 9, 3}, {0, 8, 4}}, want: "with an older token"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := leaseBook{holds: tt.holds, guards: tt.guards}
			have := strings.Join(b.check(), "; ")
			if (tt.want == "") != (have == "") || !strings.Contains(have, tt.want) {
				t.Errorf("the judge says %q, want %q", have, tt.want)
			}
		})
	}
}

// What is too little is said, of each kind.
func TestLittleProvesLittle(t *testing.T) {
	enough := Verdict{Operations: 1000, Writes: 200, Transactions: 20, Objects: 20, Renewals: 10, Locks: 5}
	if little := enough.little(1000); little != "" {
		t.Errorf("enough is too little: %s", little)
	}
	for name, less := range map[string]func(*Verdict){
		"operations": func(v *Verdict) { v.Operations-- }, "writes": func(v *Verdict) { v.Writes-- }, "transactions": func(v *Verdict) { v.Transactions-- },
		"objects": func(v *Verdict) { v.Objects-- }, "renewals": func(v *Verdict) { v.Renewals-- }, "locks": func(v *Verdict) { v.Locks-- },
	} {
		v := enough
		if less(&v); v.little(1000) == "" {
			t.Errorf("one too few of %s is enough", name)
		}
	}
}
