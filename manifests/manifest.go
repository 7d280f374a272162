package manifests

import (
	"fmt"
	"strconv"
	"strings"

	"reconcile/object"
)

// Position is a place in a file of the tree. Line and Col count from 1; Col counts bytes as compilers do.
type Position struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Col  int    `json:"col"`
}

// String is FILE:LINE:COL.
func (p Position) String() string { return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col) }

// compare orders positions by file, line and column.
func (p Position) compare(q Position) int {
	if c := strings.Compare(p.File, q.File); c != 0 {
		return c
	}
	if p.Line != q.Line {
		return p.Line - q.Line
	}
	return p.Col - q.Col
}

// Finding is one mistake at one place.
type Finding struct {
	Position
	Message string `json:"message"`
}

// String is FILE:LINE:COL: MESSAGE.
func (f Finding) String() string { return f.Position.String() + ": " + f.Message }

// Manifest is one document that became an object. It is shared (the cache holds it too) and never changed.
type Manifest struct {
	// Object is decoded and defaulted; its namespace is set where the kind has one.
	Object object.Object
	// Key is the object's key.
	Key object.Key
	// Set is the document's own JSON before defaulting: what the file says and nothing else. It tells which fields git owns.
	// What only a server sets (status, uid, resourceVersion and the like) is left out.
	Set []byte
	// Position is where the document begins.
	Position Position

	locate func() Fields
}

// Fields gives the position of each field that the document sets. It reads the document again, so that manifests which
// nobody asks about take no memory for it; keep the result while you need it.
func (m *Manifest) Fields() Fields {
	if m.locate == nil {
		return Fields{at: map[string]Position{"": m.Position}}
	}
	return m.locate()
}

// Fields are the positions of a document's fields, by path: names joined by dots, items by index, names that hold a dot or a
// bracket in brackets ("spec.template.spec.containers[0].image", "metadata.labels[app.kubernetes.io/name]").
type Fields struct{ at map[string]Position }

// Of returns the position of a field, or of the nearest field around it that the document sets: the position of what is
// missing is that of the map it is missing in. Paths as Kubernetes' validation writes them are understood too.
func (f Fields) Of(path string) Position {
	path = normalise(path)
	for {
		if p, ok := f.at[path]; ok || path == "" {
			return p
		}
		// A Secret's stringData becomes its data.
		if p, ok := f.at["stringData"+strings.TrimPrefix(path, "data")]; ok && strings.HasPrefix(path, "data") {
			return p
		}
		path = parentPath(path)
	}
}

// Exact returns the position of a field that the document sets.
func (f Fields) Exact(path string) (Position, bool) {
	p, ok := f.at[normalise(path)]
	return p, ok
}

// Paths returns every path with its position. The map is shared and not to be changed.
func (f Fields) Paths() map[string]Position { return f.at }

// joinField appends a name to a path.
func joinField(path, name string) string {
	switch {
	case strings.ContainsAny(name, ".[]"):
		return path + "[" + name + "]"
	case path == "":
		return name
	}
	return path + "." + name
}

func joinIndex(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// normalise turns the brackets that Kubernetes writes around every map key into dots where we write dots.
func normalise(path string) string {
	if !strings.Contains(path, "[") {
		return path
	}
	var out string
	for path != "" {
		i := strings.IndexByte(path, '[')
		if i < 0 {
			return out + path
		}
		out += path[:i]
		end := closing(path[i:])
		name := strings.Trim(path[i+1:i+end], `"`)
		if _, err := strconv.Atoi(name); err == nil {
			out += "[" + name + "]"
		} else {
			out = joinField(out, name)
		}
		path = path[min(len(path), i+end+1):]
	}
	return out
}

// closing finds the bracket that closes the one s begins with, or the end of s.
func closing(s string) int {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '[':
			depth++
		case ']':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return len(s)
}

// parentPath cuts the last part off a normalised path.
func parentPath(path string) string {
	if strings.HasSuffix(path, "]") {
		if i := strings.LastIndexByte(path, '['); i >= 0 {
			return path[:i]
		}
	}
	i := strings.LastIndexByte(path, '.')
	if i < 0 {
		return ""
	}
	return path[:i]
}
