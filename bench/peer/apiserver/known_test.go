package apiserver

// reason tells why a difference is meant, empty if it is not. docs/kubectl.md lists them for users.
func reason(played) string { return "" }
