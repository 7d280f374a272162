// Package controllers judges our controllers by Kubernetes' own: its Deployment, ReplicaSet, ReplicationController, StatefulSet, DaemonSet, Job, CronJob and autoscaler controllers, and those of
// PodDisruptionBudgets, ResourceQuotas, volumes, EndpointSlices and Endpoints, the nodes' life, the eviction from nodes with taints, and the garbage collector, run
// on a fake clientset beside ours, both are told the same, and after every step both must show the same.
//
// It is a module of its own, so that the product links none of Kubernetes' controllers. It owns nothing but its tests; it may know the
// product's packages. Time is virtual (testing/synctest): deadlines, back-offs and schedules pass at once, and a step is over when
// nothing moves any more.
//
// How data passes through: a test draws steps (steps_test.go), each is done on both sides (peer_test.go, ours_test.go), and what they
// show is written as text that leaves out names and hashes (show_test.go).
package controllers
