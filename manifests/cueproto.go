package manifests

// What goes between the server and the child process that evaluates CUE. The request is a zip archive on the child's standard
// input: the pushed files, and evalRequest as JSON under requestName. The answer is a stream of evalAnswer as JSON lines.

// requestName cannot be a pushed file: hidden files are never sent.
const requestName = ".request.json"

// evalRequest says what to evaluate.
type evalRequest struct {
	// Packages are folders whose CUE files are to be turned into objects, Policies folders whose packages hold constraints.
	Packages []string `json:"packages,omitempty"`
	Policies []string `json:"policies,omitempty"`
	// Objects are what the policies are applied to, as JSON.
	Objects [][]byte `json:"objects,omitempty"`
}

// evalAnswer is one line of the answer.
type evalAnswer struct {
	// Start announces the folder that is evaluated next, so that the parent knows which one did not end.
	Start string `json:"start,omitempty"`
	// Object is a document that a package holds.
	Object *evalObject `json:"object,omitempty"`
	// Finding is a mistake in a CUE file.
	Finding *Finding `json:"finding,omitempty"`
	// Violation is a constraint of a policy that object number Index breaks.
	Violation *evalViolation `json:"violation,omitempty"`
	// Done ends the answer.
	Done bool `json:"done,omitempty"`
}

// evalObject is a document: its JSON, and the position of each value (and each key) in the order in which they stand there.
type evalObject struct {
	JSON  []byte   `json:"json"`
	Files []string `json:"files"`
	// At holds a file's index, line and column for each value; in a map the key's three numbers stand before the value's.
	At []int `json:"at"`
}

type evalViolation struct {
	Index   int    `json:"index"`
	Path    string `json:"path"`
	Message string `json:"message"`
	// Rule is where the constraint stands.
	Rule Position `json:"rule"`
}

// encodeObject is the document rooted at n as it is sent.
func encodeObject(n *node) *evalObject {
	out := &evalObject{JSON: n.appendJSON(nil)}
	index := map[string]int{}
	add := func(p Position) {
		i, ok := index[p.File]
		if !ok {
			i = len(out.Files)
			index[p.File] = i
			out.Files = append(out.Files, p.File)
		}
		out.At = append(out.At, i, p.Line, p.Col)
	}
	var walk func(n *node)
	walk = func(n *node) {
		add(n.pos)
		for i, item := range n.items {
			if n.shape == mapping {
				add(n.keys[i].pos)
			}
			walk(item)
		}
	}
	walk(n)
	return out
}

// decodeObject is the inverse of encodeObject; false if the numbers do not fit the JSON.
func decodeObject(o *evalObject) (*node, bool) {
	roots, findings := parseJSON("", o.JSON)
	if len(roots) != 1 || len(findings) > 0 {
		return nil, false
	}
	at, ok := o.At, true
	next := func() (p Position) {
		if len(at) < 3 || at[0] < 0 || at[0] >= len(o.Files) {
			ok = false
			return p
		}
		p = Position{o.Files[at[0]], at[1], at[2]}
		at = at[3:]
		return p
	}
	var walk func(n *node)
	walk = func(n *node) {
		n.pos = next()
		for i := range n.items {
			if n.shape == mapping {
				n.keys[i].pos = next()
			}
			walk(n.items[i])
		}
	}
	walk(roots[0])
	return roots[0], ok && len(at) == 0
}
