package admission

import "reconcile/object"

// Reset are the fields, by their paths, that a write of the whole object ("") or of a subresource cannot set, as Kubernetes has it: nobody comes to
// own them by it. Empty means none.
func Reset(k object.Kind, subresource string) []string {
	switch {
	case subresource == "" && k.Status:
		return append([]string{"status"}, rulesOf(k.Resource).updateKeeps...)
	case subresource == "status":
		return append([]string{"spec"}, rulesOf(k.Resource).statusKeeps...)
	}
	return ownWrites[k.Resource][subresource].reset
}
