package api

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"reconcile/pki"
)

// NodeAgents finds agents by what their Node objects say: the internal address and the kubelet's port. The agent must present a
// certificate for the node's name.
type NodeAgents struct {
	// Identity is the server's certificate.
	Identity pki.Identity
	// Authority signs the agents' certificates.
	Authority *x509.CertPool
}

// Endpoint implements Agents.
func (n NodeAgents) Endpoint(node *corev1.Node) (string, *tls.Config, error) {
	port := int(node.Status.DaemonEndpoints.KubeletEndpoint.Port)
	if port == 0 {
		return "", nil, fmt.Errorf("node %s has not reported the port of its agent", node.Name)
	}
	host := ""
	for _, a := range node.Status.Addresses {
		if a.Type == corev1.NodeInternalIP || host == "" && a.Type == corev1.NodeHostName {
			host = a.Address
			if a.Type == corev1.NodeInternalIP {
				break
			}
		}
	}
	if host == "" {
		return "", nil, fmt.Errorf("node %s has not reported an address", node.Name)
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), pki.ClientTLS(n.Identity, n.Authority, node.Name, pki.ProtoHTTP1), nil
}
