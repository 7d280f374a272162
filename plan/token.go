package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"slices"
	"strconv"
	"strings"

	"reconcile/object"
)

// Token is the plan's token without the rest of the plan: the sequencer compares it before it commits.
func Token(in Input) string { return token(in, rulesOf(in)) }

// token hashes commit, base ref, the request's changes field by field, what controllers created and deleted, placements,
// refusals and rules. Times, versions and other marks of the run itself are no part of it.
func token(in Input, rules []Rule) string {
	t := hasher{sha256.New()}
	t.add("plan/1", in.Commit, in.BaseRef)
	for _, ch := range in.Requested {
		if ch.Key.Resource == "commits" {
			continue
		}
		t.add("change", verbOf(ch), ch.Key.Path())
		t.fields(ch.Key, ch.Old, ch.New)
	}
	var written []string
	for _, ch := range in.Written {
		if verb := verbOf(ch); verb != VerbChange && ch.Key.Resource != "events" && ch.Key.Resource != "commits" {
			written = append(written, verb+" "+ch.Key.Path())
		}
	}
	slices.Sort(written)
	t.add(written...)
	var placed []string
	for _, p := range in.Outcome.Placements {
		placed = append(placed, p.Pod.Path()+" "+p.Node)
	}
	for _, u := range in.Outcome.Unplaced {
		placed = append(placed, u.Pod.Path()+" "+u.Message)
	}
	slices.Sort(placed)
	t.add(placed...)
	for _, r := range rules {
		t.add("rule", r.Verb, r.Service.Path(), r.Address, strconv.Itoa(r.Expected), strings.Join(r.Notes, ";"))
	}
	return hex.EncodeToString(t.Sum(nil))
}

type hasher struct{ hash.Hash }

// add hashes each part with its length before it, so that no two lists of parts look alike.
func (h hasher) add(parts ...string) {
	h.Write([]byte(strconv.Itoa(len(parts)) + "|"))
	for _, p := range parts {
		h.Write([]byte(strconv.Itoa(len(p)) + ":" + p))
	}
}

func (h hasher) fields(key object.Key, old, now object.Object) {
	k, ok := object.KindOfResource(key.Resource)
	if !ok || now == nil {
		return
	}
	var was map[string]any
	if old != nil {
		m, err := object.ToMap(old)
		if err != nil {
			return
		}
		was = m
	}
	is, err := object.ToMap(now)
	if err != nil {
		return
	}
	for _, d := range object.Diff(k, was, is) {
		b, err := json.Marshal([]any{d.Old, d.New})
		if err != nil {
			continue
		}
		h.add(d.Path, string(b))
	}
}
