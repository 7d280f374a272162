// Package e2e tests the whole as its users meet it: the binary, real git, real kubectl, real containers, the kernel's service
// rules, on machines made of network namespaces.
//
// It owns the machines, processes and folders that its tests make, and leaves nothing behind. It knows the command line and the
// published interfaces only. Its tests need root and the binary named by $RECONCILE_BIN; `make test` builds it and sets that.
//
// How data passes through: a test starts machines (cluster_test.go), speaks to them with git, kubectl and HTTP, and compares what
// they answer with what was promised.
package e2e
