package plan

import (
	"fmt"

	"reconcile/object"
)

// Guard is the question whether a prune is too big to be done unasked.
type Guard struct {
	// Owned is the number of objects that the source owns before the push, Wanted the number in the pushed tree.
	Owned, Wanted int
	// Deleted are the objects that would be pruned.
	Deleted []object.Key
	// Allowed is N of `-o allow-delete=N`, zero if it was not given.
	Allowed int
	// Way is how whoever asks gives an option, for the error: "say --option". Empty is the way of a push.
	Way string
}

// Check refuses a prune of more than 10 objects and 20 %, of any namespace, or by an empty tree, unless as many deletions are
// allowed. The error says which push option allows it.
func (g Guard) Check() error {
	n := len(g.Deleted)
	if n == 0 || g.Allowed >= n {
		return nil
	}
	var reason string
	switch {
	case g.Wanted == 0:
		reason = "the tree holds no object at all"
	case namespaceIn(g.Deleted) != "":
		reason = fmt.Sprintf("namespace %s and everything in it would go", namespaceIn(g.Deleted))
	case n > 10 && n*5 > g.Owned:
		reason = fmt.Sprintf("that is %d %% of the %d objects of this source", n*100/g.Owned, g.Owned)
	default:
		return nil
	}
	what, way := "this", g.Way
	if way == "" {
		what, way = "this push", "push with -o"
	}
	return fmt.Errorf("%s would delete %d objects, and %s; if that is meant, %s allow-delete=%d", what, n, reason, way, n)
}

func namespaceIn(keys []object.Key) string {
	for _, k := range keys {
		if k.Resource == "namespaces" {
			return k.Name
		}
	}
	return ""
}
