package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
)

// enum is a field that takes only some values. The module's documents leave them out, a kube-apiserver tells them: they stand in the definitions that
// it is built with.
type enum struct {
	values      []any
	description string // of the whole field, with the meaning of each value; "" for the items of a list
}

// enums are the fields with few values by the name of their schema and their own; those of a list's items have the name of the list and "[]".
type enums map[string]map[string]enum

// readEnums reads the definitions that a kube-apiserver is built with, as text: to link them would bring all of Kubernetes along.
func readEnums(specs string) (enums, error) {
	path := filepath.Join(specs, "..", "..", "pkg", "generated", "openapi", "zz_generated.openapi.go")
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("read the definitions of kube-apiserver: %w", err)
	}
	out := enums{}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		name, ok := strings.CutPrefix(f.Name.Name, "schema_k8sio_api_")
		if !ok {
			continue
		}
		fields := map[string]enum{}
		readFields(f.Body, fields)
		if len(fields) > 0 {
			out["io.k8s.api."+strings.ReplaceAll(name, "_", ".")] = fields
		}
	}
	if len(out) == 0 {
		return nil, errors.New(path + " names no field with an enum: it is not written as it was in Kubernetes 1.36")
	}
	return out, nil
}

// readFields finds `"name": {SchemaProps: …}` in the body of a definition.
func readFields(body ast.Node, fields map[string]enum) {
	ast.Inspect(body, func(n ast.Node) bool {
		kv, ok := n.(*ast.KeyValueExpr)
		if !ok {
			return true
		}
		name, ok := text(kv.Key)
		schema, is := kv.Value.(*ast.CompositeLit)
		if !ok || !is {
			return true
		}
		for where, suffix := schema, ""; where != nil; suffix += "[]" {
			props := literal(where, "SchemaProps")
			if props == nil {
				break
			}
			var e enum
			for _, elt := range props.Elts {
				kv, ok := elt.(*ast.KeyValueExpr)
				if !ok {
					continue
				}
				switch key(kv) {
				case "Description":
					e.description, _ = text(kv.Value)
				case "Enum":
					if l, ok := kv.Value.(*ast.CompositeLit); ok {
						for _, x := range l.Elts {
							if v, ok := text(x); ok {
								e.values = append(e.values, v)
							}
						}
					}
				}
			}
			if len(e.values) > 0 {
				fields[name+suffix] = e
			}
			items := literal(props, "Items")
			if items == nil {
				break
			}
			where = literal(items, "Schema")
		}
		return true
	})
}

// literal is the composite that a field of a composite is set to, behind & or not; nil if there is none.
func literal(of *ast.CompositeLit, name string) *ast.CompositeLit {
	for _, elt := range of.Elts {
		kv, ok := elt.(*ast.KeyValueExpr)
		if !ok || key(kv) != name {
			continue
		}
		v := kv.Value
		if u, ok := v.(*ast.UnaryExpr); ok {
			v = u.X
		}
		l, _ := v.(*ast.CompositeLit)
		return l
	}
	return nil
}

func key(kv *ast.KeyValueExpr) string {
	if id, ok := kv.Key.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}

func text(e ast.Expr) (string, bool) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(l.Value)
	return s, err == nil
}

// into writes the enums into the schemas of a document.
func (e enums) into(schemas tree) {
	for name, fields := range e {
		schema, _ := schemas[name].(tree)
		properties, _ := schema["properties"].(tree)
		for name, f := range fields {
			plain := strings.TrimRight(name, "[]")
			at, ok := properties[plain].(tree)
			for range strings.Count(name, "[]") {
				at, ok = at["items"].(tree)
			}
			if !ok {
				continue
			}
			at["enum"] = f.values
			if f.description != "" {
				at["description"] = f.description
			}
		}
	}
}
