// Package explain tells why a pod is where it is or nowhere, where the pods of a node would go without it, and which pods would be better off elsewhere.
//
// It owns the words and shapes of these answers. The rules are the scheduler's, which it asks; it places nothing and changes nothing. It may not know
// HTTP, the store or the clock: it is a pure function of a View.
//
// How data passes through: a View of the cluster and the name of a pod or a node come in, an answer made of plain values goes out, ready to be written
// as JSON by api/explaindoor and to be printed by the command line.
package explain
