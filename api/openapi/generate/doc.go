// Command generate writes api/openapi/data: the OpenAPI documents of the kinds that the API serves, cut out of those that the module
// k8s.io/kubernetes carries.
//
// It keeps the paths of what is served, without the prose of their parameters, and the schemas that those reach, whole: kubectl
// explain shows them. The values that a field may have, which those documents leave out, it reads from the definitions that a kube-apiserver
// is built with (enums.go). It runs by `go generate ./api/openapi`, whenever a kind is added or the module changes; a test holds the
// files against what it would write. It knows object and nothing of the program.
package main
