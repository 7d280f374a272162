// Package gitops is every commit's one way into the cluster: push, plan, apply and validate are the same steps, and differ in
// where they end.
//
// It owns those steps: which files count, findings, who owns what (adoption, pruning and its guard), the request to the
// sequencer (objects, ref, pack and ledger entry in one), and the words that a push is answered with. It may not know HTTP,
// raft or any machine: the repository is behind manifests/git, the writer and the state behind the small interfaces of
// service.go.
//
// How data passes through: a commit's tree becomes manifests (manifests.Loader), manifests and the tree before become the
// wanted writes (desired.go), the sequencer settles them into a plan, and either the plan is all (preview) or the same
// request is submitted with the plan's token.
package gitops
