// Package manifests turns files and git repositories into objects with positions.
//
// It owns the reading of YAML, JSON and CUE (files, strict decoding, positions of every field), the child process in which
// users' CUE is evaluated, the cache of verdicts by content hash, and, in manifests/git, the smart-HTTP protocol: receive-pack
// with its quarantine, upload-pack, the object store made of packs. It may know admission (defaults and validation), object
// and schema, and nothing of the cluster's state: the same code serves `reconcile validate` without a cluster.
//
// How data passes through: a Tree (a commit, a folder) is listed, each file's content is looked up in the cache or decoded,
// defaulted and validated; Load returns all manifests and all findings at once, in the order of path, line and column.
package manifests
