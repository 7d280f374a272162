package main

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue/format"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

func main() {
	out, err := generate()
	if err == nil {
		err = os.WriteFile("definitions.cue", out, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

const header = `// Closed definitions of every kind that a repository may hold, for editors and cue vet:
//
//	reconcile schema > k8s/schema.cue
//	cue vet -d '#Deployment' k8s/schema.cue web.yaml
//
// They say which fields there are, their types, what is required and what is enumerated. Rules across fields are checked by
// reconcile validate and at every push.
//
// Generated from the Go types by schema/generate. DO NOT EDIT.
package k8s

#Quantity: number | =~"^[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)(([eE][+-]?[0-9]+)|[numkMGTPE]|[KMGTPE]i)?$"
#IntOrString: int32 | string
#Time: null | =~"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$"
#Base64: =~"^[A-Za-z0-9+/=\\s]*$"

`

// generator writes one definition for each Go struct that the kinds reach.
type generator struct {
	names map[reflect.Type]string
	// roots are the kinds' own structs. Inside another one (a claim in a stateful set) they need neither apiVersion nor kind.
	roots map[reflect.Type]bool
	taken map[string]bool
	queue []reflect.Type
	out   bytes.Buffer
}

func generate() ([]byte, error) {
	g := &generator{names: map[reflect.Type]string{}, roots: map[reflect.Type]bool{}, taken: map[string]bool{"Quantity": true, "IntOrString": true, "Time": true, "Base64": true}}
	g.out.WriteString(header)
	var kinds []object.Kind
	for _, k := range object.Kinds() {
		if k.FromGit {
			kinds = append(kinds, k)
			t := reflect.TypeOf(k.New()).Elem()
			g.roots[t], g.taken[k.GVK.Kind] = true, true
		}
	}
	for _, k := range kinds {
		fmt.Fprintf(&g.out, "#%s: {\napiVersion!: %q\nkind!: %q\nmetadata!: %s\n", k.GVK.Kind, k.GVK.GroupVersion().String(), k.GVK.Kind, g.typ(reflect.TypeFor[metav1.ObjectMeta]()))
		g.fields(reflect.TypeOf(k.New()).Elem(), "metadata")
		g.out.WriteString("}\n\n")
	}
	for len(g.queue) > 0 {
		t := g.queue[0]
		g.queue = g.queue[1:]
		fmt.Fprintf(&g.out, "#%s: {\n", g.names[t])
		if g.roots[t] {
			g.out.WriteString("apiVersion?: string\nkind?: string\n")
		}
		g.fields(t)
		g.out.WriteString("}\n\n")
	}
	return format.Source(g.out.Bytes(), format.Simplify())
}

// fields writes a struct's fields; those of embedded structs without a name are the struct's own.
func (g *generator) fields(t reflect.Type, but ...string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || slices.Contains(but, name) || !f.IsExported() || f.Type.Name() == "TypeMeta":
		case f.Anonymous && name == "":
			g.fields(f.Type)
		default:
			mark := "?"
			if !strings.Contains(opts, "omit") && f.Type.Kind() != reflect.Pointer && !slices.Contains(optional, t.Name()+"."+name) || slices.Contains(required, t.Name()+"."+name) {
				mark = "!"
			}
			fmt.Fprintf(&g.out, "%s%s: %s\n", label(name), mark, g.typ(f.Type))
		}
	}
}

func label(name string) string {
	if strings.ContainsAny(name, "-./$") {
		return strconv.Quote(name)
	}
	return name
}

// typ is the CUE expression of a Go type.
func (g *generator) typ(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		return g.typ(t.Elem())
	}
	if expr, ok := special[t.Name()]; ok && t.PkgPath() != "" {
		return expr
	}
	if values, ok := enums[t.Name()]; ok && t.Kind() == reflect.String {
		quoted := make([]string, len(values))
		for i, v := range values {
			quoted[i] = strconv.Quote(v)
		}
		return strings.Join(quoted, " | ")
	}
	switch t.Kind() {
	case reflect.Struct:
		return "#" + g.name(t)
	case reflect.Map:
		return "{[string]: " + g.typ(t.Elem()) + "}"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "#Base64"
		}
		return "[..." + g.typ(t.Elem()) + "]"
	case reflect.Int32:
		return "int32"
	case reflect.Int, reflect.Int64:
		return "int64"
	case reflect.Bool:
		return "bool"
	case reflect.String:
		return "string"
	case reflect.Float32, reflect.Float64:
		return "number"
	}
	return "_"
}

// name gives a struct its definition's name: that of the Go type, with the package's in front where two have the same.
func (g *generator) name(t reflect.Type) string {
	if n, ok := g.names[t]; ok {
		return n
	}
	n := t.Name()
	if g.taken[n] {
		parts := strings.Split(t.PkgPath(), "/")
		n = parts[len(parts)-2] + "_" + n
	}
	g.names[t], g.taken[n] = n, true
	g.queue = append(g.queue, t)
	return n
}
