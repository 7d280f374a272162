package server

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"reconcile/pki"
)

// agents tells api how to reach a node's agent: at the node's InternalIP and the port that the Node object names, checking that the
// certificate is the node's.
type agents struct {
	identity pki.Identity
	pool     *x509.CertPool
}

// Endpoint implements api.Agents.
func (a agents) Endpoint(node *corev1.Node) (string, *tls.Config, error) {
	port := node.Status.DaemonEndpoints.KubeletEndpoint.Port
	if port == 0 {
		return "", nil, fmt.Errorf("node %s names no port of its agent", node.Name)
	}
	for _, addr := range node.Status.Addresses {
		if addr.Type == corev1.NodeInternalIP {
			return net.JoinHostPort(addr.Address, strconv.Itoa(int(port))), pki.ClientTLS(a.identity, a.pool, node.Name, pki.ProtoHTTP1), nil
		}
	}
	return "", nil, fmt.Errorf("node %s has no InternalIP", node.Name)
}
