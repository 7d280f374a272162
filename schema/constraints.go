package schema

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"
	"cuelang.org/go/cue/errors"

	"reconcile/object"
)

//go:embed constraints.cue
var constraintsSource string

// Violation is a rule that an object breaks. Path is written as manifests.Fields writes it ("spec.ports[0].port").
type Violation struct {
	Path    string
	Message string
}

// objectsPerContext bounds what one CUE context sees before it is thrown away: a context keeps all that it was ever given.
const objectsPerContext = 100

// Constraints are the compact rules of constraints.cue, compiled. They are safe for concurrent use.
type Constraints struct {
	// kinds says for each kind with rules which fields they look at.
	kinds map[string]mask
	mu    sync.Mutex
	idle  []*compiled
}

// compiled is the rules in one context.
type compiled struct {
	ctx  *cue.Context
	root cue.Value
	left int
}

// NewConstraints compiles the rules. It takes a few milliseconds.
func NewConstraints() (*Constraints, error) {
	first, err := compile()
	if err != nil {
		return nil, err
	}
	c := &Constraints{kinds: map[string]mask{}, idle: []*compiled{first}}
	fields, err := first.root.Fields()
	if err != nil {
		return nil, fmt.Errorf("read constraints.cue: %w", err)
	}
	for fields.Next() {
		c.kinds[fields.Selector().String()] = maskOf(fields.Value())
	}
	return c, nil
}

// mask names the fields of a map that rules look at; a nil mask is the whole value. CUE then sees a few fields of an object
// instead of all, which is most of the cost.
type mask map[string]mask

func maskOf(v cue.Value) mask {
	if v.IncompleteKind() != cue.StructKind {
		return nil
	}
	it, err := v.Fields(cue.Optional(true))
	if err != nil {
		return nil
	}
	m := mask{}
	for it.Next() {
		m[it.Selector().Unquoted()] = maskOf(it.Value())
	}
	return m
}

// project returns the part of a document that the mask names.
func (m mask) project(doc map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for name, sub := range m {
		v, ok := doc[name]
		if inner, isMap := v.(map[string]any); ok && isMap && sub != nil {
			out[name] = sub.project(inner)
		} else if ok {
			out[name] = v
		}
	}
	return out
}

func compile() (*compiled, error) {
	ctx := cuecontext.New()
	root := ctx.CompileString(constraintsSource, cue.Filename("constraints.cue"))
	if err := root.Err(); err != nil {
		return nil, fmt.Errorf("compile constraints.cue: %w", err)
	}
	return &compiled{ctx: ctx, root: root, left: objectsPerContext}, nil
}

// Check returns the rules that an object breaks, one for each field. It costs nothing for kinds that have none.
func (c *Constraints) Check(k object.Kind, o object.Object) []Violation {
	fields, ok := c.kinds[k.GVK.Kind]
	if !ok {
		return nil
	}
	doc, err := object.ToMap(o)
	if err != nil {
		return []Violation{{Message: err.Error()}}
	}
	rules, err := c.take()
	if err != nil {
		return []Violation{{Message: err.Error()}}
	}
	defer c.give(rules)
	v := rules.root.LookupPath(cue.ParsePath(k.GVK.Kind)).Unify(rules.ctx.Encode(fields.project(doc)))
	return violations(v.Validate())
}

func (c *Constraints) take() (*compiled, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.idle); n > 0 {
		r := c.idle[n-1]
		c.idle = c.idle[:n-1]
		return r, nil
	}
	return compile()
}

func (c *Constraints) give(r *compiled) {
	if r.left--; r.left <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = append(c.idle, r)
}

// violations turns CUE's errors into one violation a path. Of several for one path the rule's own words are kept.
func violations(err error) []Violation {
	var out []Violation
	at := map[string]int{}
	for _, e := range errors.Errors(err) {
		path := PathOf(e.Path())
		format, args := e.Msg()
		msg := fmt.Sprintf(format, args...)
		i, ok := at[path]
		if !ok {
			at[path] = len(out)
			out = append(out, Violation{path, msg})
		} else if better(msg, out[i].Message) {
			out[i].Message = msg
		}
	}
	return out
}

// better prefers words of a rule to CUE's own about conflicts.
func better(a, b string) bool {
	return strings.Contains(b, "conflicting values") && !strings.Contains(a, "conflicting values")
}

// PathOf writes a CUE path, from which the kind's name and definitions in front are left out, as paths of fields are written.
func PathOf(parts []string) string {
	var b strings.Builder
	for i, p := range parts {
		if i == 0 && p != "" && (p[0] >= 'A' && p[0] <= 'Z' || p[0] == '#') {
			continue
		}
		if n, err := strconv.Atoi(p); err == nil {
			fmt.Fprintf(&b, "[%d]", n)
			continue
		}
		if name, err := strconv.Unquote(p); err == nil {
			p = name
		}
		switch {
		case strings.ContainsAny(p, ".[]"):
			fmt.Fprintf(&b, "[%s]", p)
		case b.Len() == 0:
			b.WriteString(p)
		default:
			b.WriteString("." + p)
		}
	}
	return b.String()
}
