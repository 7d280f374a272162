package manifests

import (
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"reconcile/admission"
	"reconcile/object"
	reschema "reconcile/schema"
)

// checker turns nodes into manifests: strict decoding, defaults, Kubernetes' validation, our constraints.
type checker struct {
	types       *types
	constraints *reschema.Constraints
}

// verdict is what one file (or one CUE package) came to.
type verdict struct {
	manifests []*Manifest
	findings  []Finding
	// stopped tells that an evaluation did not come to its end. How much time and memory there is differs from hour to hour, so such a
	// verdict is not on the content alone and is not kept.
	stopped bool
}

func (v *verdict) report(pos Position, format string, args ...any) {
	v.findings = append(v.findings, Finding{pos, fmt.Sprintf(format, args...)})
}

// file reads one YAML or JSON file.
func (c *checker) file(path string, content []byte) *verdict {
	v := &verdict{}
	if len(content) > maxFile {
		v.report(Position{path, 1, 1}, "the file has %d bytes; manifests over %d MiB are refused", len(content), maxFile>>20)
		return v
	}
	parse := parserOf(path)
	roots, findings := parse(path, content)
	v.findings = findings
	// Positions are found by reading the same content again, so that they take no memory while nobody asks.
	for i, root := range flatten(roots) {
		c.document(v, root, func() Fields {
			again, _ := parse(path, content)
			return positions(flatten(again)[i])
		})
	}
	v.findings = SortFindings(v.findings)
	return v
}

// Locate returns the positions of the document of a YAML or JSON file that begins at a line.
func Locate(file string, content []byte, line int) (Fields, bool) {
	if len(content) > maxFile || strings.HasSuffix(file, ".cue") {
		return Fields{}, false
	}
	roots, _ := parserOf(file)(file, content)
	for _, root := range flatten(roots) {
		if root.pos.Line == line {
			return positions(root), true
		}
	}
	return Fields{}, false
}

func parserOf(path string) func(string, []byte) ([]*node, []Finding) {
	if strings.HasSuffix(path, ".json") {
		return parseJSON
	}
	return parseYAML
}

// flatten replaces each v1 List by its items.
func flatten(roots []*node) []*node {
	var out []*node
	for _, r := range roots {
		kind, _ := r.get("kind")
		version, _ := r.get("apiVersion")
		items, ok := r.get("items")
		if kind.str() == "List" && version.str() == "v1" && ok && items.shape == sequence {
			out = append(out, flatten(items.items)...)
			continue
		}
		out = append(out, r)
	}
	return out
}

// document checks one document and adds its manifest or its findings to v.
func (c *checker) document(v *verdict, root *node, locate func() Fields) {
	k, ok := c.kind(v, root)
	if !ok {
		return
	}
	root = serverless(k, root)
	o := k.New()
	d := &decoder{types: c.types}
	d.decode(root, reflect.ValueOf(o).Elem(), "")
	o.GetObjectKind().SetGroupVersionKind(k.GVK)
	if k.Namespaced && o.GetNamespace() == "" {
		o.SetNamespace("default")
	}
	faults := d.faults
	if o.GetName() == "" {
		faults = append(faults, c.nameless(root))
	}
	at := positions(root)
	admission.Default(o)
	for _, e := range admission.Validate(o, nil) {
		faults = addRule(faults, at, e)
	}
	if c.constraints != nil {
		for _, f := range c.constraints.Check(k, o) {
			faults = addConstraint(faults, at, f)
		}
	}
	for _, f := range faults {
		v.findings = append(v.findings, Finding{f.pos, discreet(k.Resource, f)})
	}
	if len(faults) > 0 {
		return
	}
	o, set, err := asStored(k, o, root.appendJSON(nil))
	if err != nil {
		v.report(root.pos, "%v", err)
		return
	}
	v.manifests = append(v.manifests, &Manifest{Object: o, Key: object.KeyOf(o), Set: set, Position: root.pos, locate: locate})
}

// asStored turns an object of a version that is not the stored one into that, and the document with it, so that its fields are owned
// by the names under which they are stored.
func asStored(k object.Kind, o object.Object, set []byte) (object.Object, []byte, error) {
	if k.IsStored() {
		return o, set, nil
	}
	plain, _, err := admission.DecodeJSON(set)
	if err != nil {
		return nil, nil, err
	}
	if plain, err = admission.Convert(plain, k.Stored()); err != nil {
		return nil, nil, err
	}
	if set, err = object.EncodeJSON(plain); err != nil {
		return nil, nil, err
	}
	if o, err = admission.Convert(o, k.Stored()); err != nil {
		return nil, nil, err
	}
	admission.Default(o)
	return o, set, nil
}

// kind finds a document's kind, or reports why it has none.
func (c *checker) kind(v *verdict, root *node) (object.Kind, bool) {
	if root.shape != mapping {
		v.report(root.pos, "a manifest is a map with apiVersion and kind, this is %s", root.describe())
		return object.Kind{}, false
	}
	version, hasVersion := root.get("apiVersion")
	kind, hasKind := root.get("kind")
	switch {
	case !hasVersion && !hasKind:
		v.report(root.pos, "apiVersion and kind are missing; name files that are no manifests in .reconcileignore")
	case !hasVersion:
		v.report(root.pos, "apiVersion is missing")
	case !hasKind:
		v.report(root.pos, "kind is missing")
	case version.shape != text:
		v.report(version.pos, "apiVersion: want a string, got %s", version.describe())
	case kind.shape != text:
		v.report(kind.pos, "kind: want a string, got %s", kind.describe())
	default:
		return c.known(v, version, kind)
	}
	return object.Kind{}, false
}

func (c *checker) known(v *verdict, version, kind *node) (object.Kind, bool) {
	gvk := schema.FromAPIVersionAndKind(version.str(), kind.str())
	k, ok := object.KindOf(gvk)
	if ok && !k.FromGit {
		v.report(kind.pos, "kind: a %s is made by the cluster itself and cannot come from git", k.GVK.Kind)
		return k, false
	}
	if ok {
		return k, true
	}
	var names []string
	for _, other := range object.Kinds() {
		if !other.FromGit {
			continue
		}
		if other.GVK.Kind == gvk.Kind {
			v.report(version.pos, "apiVersion: %s is served as %s, not as %s", gvk.Kind, other.GVK.GroupVersion(), clip(version.str()))
			return k, false
		}
		names = append(names, other.GVK.Kind)
	}
	sort.Strings(names)
	if best := nearest(gvk.Kind, slices.Clone(names)); best != "" {
		v.report(kind.pos, "kind: %s is not known; did you mean %q?", quote(gvk.Kind), best)
	} else {
		v.report(kind.pos, "kind: %s of %s is not known; known are %s", quote(gvk.Kind), quote(version.str()), strings.Join(names, ", "))
	}
	return k, false
}

// serverOnly are the metadata fields that a server sets: kubectl get -o yaml prints them, and they mean nothing in a file.
var serverOnly = []string{"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"}

// serverless leaves out what only a server sets.
func serverless(k object.Kind, root *node) *node {
	root = root.without(func(name string) bool { return name == "status" && k.Status })
	if meta, ok := root.get("metadata"); ok && meta.shape == mapping {
		root = root.replace("metadata", meta.without(func(name string) bool { return slices.Contains(serverOnly, name) }))
	}
	return root
}

// nameless reports an object without a name.
func (c *checker) nameless(root *node) fault {
	meta, ok := root.get("metadata")
	if !ok || meta.shape != mapping {
		return fault{path: "metadata.name", pos: root.pos, msg: "metadata.name is missing"}
	}
	at := root.pos
	for i, k := range root.keys {
		if root.items[i] == meta {
			at = k.pos
		}
	}
	if g, ok := meta.get("generateName"); ok {
		return fault{path: "metadata.name", pos: g.pos, msg: "metadata.generateName: an object from git needs a name of its own; set metadata.name"}
	}
	return fault{path: "metadata.name", pos: at, msg: "metadata.name is missing"}
}

// addRule adds a fault that Kubernetes' validation found, unless decoding has already said what is wrong there.
func addRule(faults []fault, at Fields, e *field.Error) []fault {
	path := normalise(e.Field)
	_, set := at.Exact(path)
	for _, f := range faults {
		switch {
		case !set && e.Type != field.ErrorTypeRequired && parentPath(path) == parentPath(f.path):
			// A default took its value from the field that is wrong.
			return faults
		case path == f.path || below(path, f.path):
			return faults
		case (e.Type == field.ErrorTypeRequired || e.Type == field.ErrorTypeInvalid && e.BadValue == "") && parentPath(path) == parentPath(f.path) && strings.HasPrefix(f.msg, "unknown field"):
			return faults
		case below(f.path, path) && !isString(e.BadValue):
			// What is wrong inside has been said; that the whole is wrong then is a consequence.
			return faults
		}
	}
	return append(faults, fault{path: path, pos: rulePosition(at, path, e), msg: e.Field + ": " + e.ErrorBody(), valueless: valueless(e)})
}

func isString(v any) bool { _, ok := v.(string); return ok }

// rulePosition is where a fault stands. A bad key of a map is reported with the map's path and the key as value.
func rulePosition(at Fields, path string, e *field.Error) Position {
	if name, ok := e.BadValue.(string); ok && e.Type == field.ErrorTypeInvalid {
		if p, ok := at.Exact(joinField(path, name)); ok {
			return p
		}
	}
	return at.Of(path)
}

// addConstraint adds what a CUE constraint found, unless the Go rules have reported the same field.
func addConstraint(faults []fault, at Fields, f reschema.Violation) []fault {
	for _, have := range faults {
		if have.path == f.Path || below(f.Path, have.path) || below(have.path, f.Path) {
			return faults
		}
	}
	return append(faults, fault{path: f.Path, pos: at.Of(f.Path), msg: f.Path + ": " + f.Message})
}

// below tells whether a path lies inside another.
func below(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && outer != "" && rest != "" && (rest[0] == '.' || rest[0] == '[')
}

// SortFindings orders findings by file, line and column, and drops those that say the same of the same place.
func SortFindings(f []Finding) []Finding {
	slices.SortStableFunc(f, func(a, b Finding) int { return a.compare(b.Position) })
	return slices.Compact(f)
}
