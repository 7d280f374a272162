package plan

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"reconcile/object"
)

// defaultWidth is that of a plan's lines, in columns.
const defaultWidth = 100

// signs are what a line begins with, colours the terminal's (ECMA-48) for them.
var (
	signs   = map[string]string{VerbCreate: "+", VerbChange: "~", VerbAdopt: "~", VerbDelete: "-"}
	colours = map[string]string{VerbCreate: "\x1b[32m", VerbChange: "\x1b[33m", VerbAdopt: "\x1b[33m", VerbDelete: "\x1b[31m"}
)

const reset = "\x1b[0m"

// Render is the plan for people: lines of at most width columns (0: 100), each ended by a newline, with colour if asked. The
// last line has the counts.
func Render(p *Plan, width int, colour bool) string {
	if width <= 0 {
		width = defaultWidth
	}
	w := &writer{width: width, colour: colour}
	for _, c := range p.Changes {
		w.change(c)
	}
	w.gap()
	w.pods(p)
	w.gap()
	for _, r := range p.Rules {
		w.rule(r)
	}
	w.gap()
	for _, t := range p.Warnings {
		w.line("", "warning: "+t, "  ")
	}
	w.gap()
	w.line("", summary(p), "")
	return w.b.String()
}

func summary(p *Plan) string {
	if p.Empty() {
		return "Plan: nothing to do."
	}
	t := fmt.Sprintf("Plan: %d to create, %d to change, %d to delete.", p.Counts.Create, p.Counts.Change, p.Counts.Delete)
	if p.Counts.Adopt > 0 {
		t += fmt.Sprintf(" %d of the changed objects become git's (adopted).", p.Counts.Adopt)
	}
	return t
}

type writer struct {
	b      strings.Builder
	width  int
	colour bool
	open   bool // the last line belongs to a block that a gap must end
}

// gap puts an empty line between blocks.
func (w *writer) gap() {
	if w.open {
		w.b.WriteByte('\n')
		w.open = false
	}
}

// line writes a line, folded at spaces to the width; what follows the first line begins with hang.
func (w *writer) line(verb, text, hang string) {
	w.open = true
	for i, part := range fold(text, w.width, hang) {
		if i > 0 {
			part = hang + part
		}
		if w.colour && verb != "" {
			part = colours[verb] + part + reset
		}
		w.b.WriteString(part)
		w.b.WriteByte('\n')
	}
}

// fold cuts text at spaces into parts of at most width columns, less hang from the second on. A word that is longer is cut.
func fold(text string, width int, hang string) []string {
	var out []string
	room := width
	for utf8.RuneCountInString(text) > room {
		runes := []rune(text)
		cut := strings.LastIndexByte(string(runes[:room+1]), ' ')
		if strings.TrimSpace(string(runes[:room])) == "" || cut <= len(text)-len(strings.TrimLeft(text, " ")) {
			out = append(out, string(runes[:room]))
			text = string(runes[room:])
		} else {
			out = append(out, text[:cut])
			text = text[cut+1:]
		}
		room = max(20, width-utf8.RuneCountInString(hang))
	}
	return append(out, text)
}

func (w *writer) change(c Change) {
	t := signs[c.Verb] + " " + c.Key.String()
	if c.Verb == VerbAdopt {
		t += " (adopted: it belongs to git from now on)"
	}
	if c.File != "" {
		t += "  " + c.File
	}
	w.line(c.Verb, t, "    ")
	if c.Verb == VerbCreate {
		return
	}
	for _, f := range c.Fields {
		t := "    " + f.Path + ": " + arrow(f)
		if f.File != "" {
			t += "  " + f.File
		}
		w.line("", t, "      ")
	}
}

func arrow(f FieldChange) string {
	switch {
	case f.Old == nil:
		return "(none) → " + *f.New
	case f.New == nil:
		return *f.Old + " → (none)"
	case *f.Old == *f.New && *f.Old == "(changed)":
		return "(changed)"
	}
	return *f.Old + " → " + *f.New
}

// pods writes what happens to the pods of each owner: where new ones go, which found no place, how many go away.
func (w *writer) pods(p *Plan) {
	for _, pl := range p.Placements {
		var nodes []string
		for _, n := range pl.Nodes {
			t := n.Node
			if n.Pods > 1 {
				t += fmt.Sprintf(" ×%d", n.Pods)
			}
			nodes = append(nodes, t)
		}
		t := label(pl.Owner) + ": " + count(pl.Pods, "pod") + " → " + strings.Join(nodes, ", ")
		if c := cascadeFor(p, pl.Owner); c.Note != "" {
			t += " (" + c.Note + ")"
		}
		w.line("", t, "    ")
	}
	for _, u := range p.Unplaced {
		w.line(VerbDelete, label(u.Owner)+": "+count(u.Pods, "pod")+" without a node: "+u.Message, "    ")
	}
	for _, c := range p.Cascade {
		if c.Resource == "pods" && c.Deleted > 0 {
			t := label(c.Owner) + ": " + count(c.Deleted, "pod") + " stopped"
			if c.Note != "" && c.Created == 0 {
				t += " (" + c.Note + ")"
			}
			w.line("", t, "    ")
		}
	}
}

func cascadeFor(p *Plan, owner object.Key) Cascade {
	for _, c := range p.Cascade {
		if c.Resource == "pods" && c.Owner == owner {
			return c
		}
	}
	return Cascade{}
}

// label is an owner's name, with its namespace unless that is default.
func label(k object.Key) string {
	if k.Namespace == "" || k.Namespace == "default" {
		return k.Name
	}
	return k.Namespace + "/" + k.Name
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (w *writer) rule(r Rule) {
	name := label(r.Service)
	if r.Port != "" {
		name += ":" + r.Port
	}
	t := signs[r.Verb] + " " + r.Address + " " + name
	if r.Verb != VerbDelete {
		t += " → " + backends(r)
		for _, n := range r.Notes {
			t += "; " + n
		}
	}
	w.line(r.Verb, t, "    ")
}

// backends tells how many endpoints there are, and how many there will be: a pod counts when it is ready.
func backends(r Rule) string {
	switch {
	case r.Expected == 0:
		return "no endpoints"
	case r.Ready >= r.Expected:
		return count(r.Expected, "endpoint")
	case r.Ready == 0:
		return count(r.Expected, "endpoint") + " once ready"
	}
	return fmt.Sprintf("%s once ready, %d now", count(r.Expected, "endpoint"), r.Ready)
}

// RenderDiff is the plan's fields in the manner of diff -u: two header lines an object, then each field's old and new value.
func RenderDiff(p *Plan, colour bool) string {
	var b strings.Builder
	paint := func(verb, line string) {
		if colour && verb != "" {
			line = colours[verb] + line + reset
		}
		b.WriteString(line)
		b.WriteByte('\n')
	}
	for _, c := range p.Changes {
		from, to := "a/"+c.Key.String(), "b/"+c.Key.String()
		if c.Verb == VerbCreate {
			from = "/dev/null"
		}
		if c.Verb == VerbDelete {
			to = "/dev/null"
		} else if c.File != "" {
			to += "\t" + c.File
		}
		paint(VerbDelete, "--- "+from)
		paint(VerbCreate, "+++ "+to)
		for _, f := range c.Fields {
			if f.Old != nil {
				paint(VerbDelete, "-"+f.Path+": "+*f.Old)
			}
			if f.New != nil {
				paint(VerbCreate, "+"+f.Path+": "+*f.New)
			}
		}
	}
	return b.String()
}
