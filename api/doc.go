// Package api serves the cluster's objects over HTTP as Kubernetes does, for every kind and version of object.Served.
//
// It owns routing, negotiation, discovery, the encodings of answers, tables, watches, patches, server-side apply, the bounds of
// what is served at once, and streams. It keeps no state but a bounded cache of encoded bytes, its metrics and its queue. It knows storage only through Store and Writer (store.go), which the caller gives it;
// nothing in the path of a request knows a kind by name: what differs between kinds is a row of data (object.Kind), of rules
// (admission) or of columns (package table). What is asked and never stored is a row of actions (actions.go); a subresource that only
// one kind has stands in the kind's row, with the name of a deed (deeds.go).
//
// How data passes through: a request is authenticated (its client certificate), authorised (authz), routed to a verb of a
// resource; a read takes a view of the store, a write is decoded strictly, defaulted, converted to the stored version, given its
// field managers (managed.go), validated (admission) and given to the sequencer; the answer is encoded as the client asked: JSON, YAML, protobuf, a Table or metadata alone. A watch turns the
// store's changes into events of the watcher's selection. Streams of pods are tunnelled to the node's agent.
package api
