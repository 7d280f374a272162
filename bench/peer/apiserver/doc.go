// Package apiserver judges our API by Kubernetes' own: the same courses of requests are played against a real kube-apiserver with etcd and
// against a server of ours, and each answer must be the same: code, headers that clients read, and body.
//
// It is a module of its own and owns nothing but its tests. The servers are started by the test, on loopback addresses of their own, both
// without controllers: what is judged is the API alone. KUBE_APISERVER and ETCD name the peer's programs (scripts/kube-apiserver.sh and
// scripts/etcd-tools.sh build them).
//
// How data passes through: a course is a list of requests (course_test.go reads those of testdata, random_test.go draws others from a seed);
// it is played on each side in a namespace of its own (play_test.go), what differs by nature is taken out of the answers (normal_test.go):
// UIDs, revisions, times, generated names and addresses become symbols, numbered as they first appear, so that the same revision twice on one
// side and not on the other is still a difference.
package apiserver
