// Package object knows the kinds: which exist, how each is named, decoded, encoded, copied and addressed.
//
// It owns the scheme, the table of kinds (kinds.go), the keys under which objects are stored (key.go), their
// protobuf and JSON encodings (codec.go), paths of fields inside an object (fieldpath.go), the kinds of group
// reconcile.local (v1alpha1.go), and the two small types by which objects flow to whoever follows them (follow.go).
//
// A kind is a row of the table of its group (kinds_GROUP.go): its names, in which versions it is served, whether git may hold it, which
// fields a selector may name. What else a kind needs is a row each in two more tables, and nothing in the path of a request asks
// for a kind by name: admission's rules (Kubernetes' validation and what its strategies do; without a row an object is stored as it
// is sent) and api/table's columns (without a row: name and age). Of several versions one is stored, and Encode refuses the others.
//
// It is a leaf: it knows no store, no network, no clock and none of the other packages. Objects that come out of a
// store or a view are shared and immutable; whoever wants to change one calls Copy first.
//
// How data passes through: bytes of a file or a request become an Object by Decode or DecodeJSON; an Object becomes
// the stored bytes by Encode (Kubernetes' protobuf behind the prefix "k8s\0"; kinds of our own as JSON inside the
// same envelope), and a reader's bytes by EncodeJSON.
package object
