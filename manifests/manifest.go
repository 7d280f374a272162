package manifests

import (
	"fmt"

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

// Finding is one mistake at one place.
type Finding struct {
	Position
	Message string `json:"message"`
}

// String is FILE:LINE:COL: MESSAGE.
func (f Finding) String() string { return f.Position.String() + ": " + f.Message }

// Manifest is one document that became an object.
type Manifest struct {
	// Object is decoded and defaulted, and shared: the cache holds it too.
	Object object.Object
	// Set is the document's own JSON before defaulting: what the file says and nothing else. It tells which fields git owns.
	Set []byte
	// Position is where the document begins.
	Position Position
	// Fields gives the position of each field that the document sets, by path ("spec.template.spec.containers[0].image").
	Fields map[string]Position
}
