package controller

import (
	"fmt"
	"runtime"
)

// PanicText says what a recovered panic was. Only what the runtime itself raised (an index out of range, a nil pointer) is repeated: its
// text names types and numbers. Any other value may hold something of a user's object, a Secret's too, so only its type is told.
func PanicText(p any) string {
	if e, ok := p.(runtime.Error); ok {
		return e.Error()
	}
	return fmt.Sprintf("a panic with a %T", p)
}
