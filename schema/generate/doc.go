// Command generate writes schema/definitions.cue: a closed CUE definition of every kind that a repository may hold, made from
// the Go types by reflection, with the enumerations and patterns that the types do not tell.
//
// It owns those tables and nothing at run time; it may know object. Run it with `go generate ./schema`. A test holds the file
// against what it would write.
package main
