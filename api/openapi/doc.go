// Package openapi holds the OpenAPI documents of the kinds that come from Kubernetes.
//
// It owns compressed documents, one for each group version (OpenAPI v3) and one of all (v2, as JSON and as protobuf), with an index
// of their hashes. They are made from the documents inside the module k8s.io/kubernetes by the command below (generate) and are
// never parsed at run time. It knows no HTTP and no other package of ours.
//
// How data passes through: V3 and V2 give the stored bytes, compressed with gzip, which api sends as they are.
package openapi

//go:generate go run reconcile/api/openapi/generate
