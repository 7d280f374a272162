//go:build tools

// Package tools names the packages that scripts/conformance-tools.sh builds out of Kubernetes' module, so that go.mod and go.sum cover them.
package tools

import _ "k8s.io/kubernetes/test/e2e"
