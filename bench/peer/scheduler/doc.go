// Package scheduler judges our scheduler by Kubernetes' own: random nodes, pods and states go through the plugins of kube-scheduler's
// default profile and through ours, and what both say of every pod on every node must be the same: verdict, plugin, reasons and
// each plugin's score.
//
// It is a module of its own, so that the product links none of Kubernetes' scheduler. It owns nothing but its tests; it may know the
// product's packages.
//
// How data passes through: a seed draws a world (draw_test.go); the peer reads it into its framework (peer_test.go), ours into a
// snapshot, and judge_test.go compares the answers, pod by pod, placing each where ours wants it.
package scheduler
