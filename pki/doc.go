// Package pki owns the cluster's keys and certificates: the authority, the certificates it signs, the kubeconfig that holds
// one of them, and the TLS of the one port that every server listens on.
//
// It is a leaf: it knows files, x509 and TLS, and none of the other packages. It may not know what a certificate is used
// for beyond its name and groups: those are Kubernetes' (CN is the user, O the groups), and authz judges them.
//
// How data passes through: a data directory becomes an Authority (created on first use, files 0600); an Authority signs
// Identities, which are loaded from the same directory while they are still good; an Identity becomes a kubeconfig, a
// server's or a client's tls.Config. A Mux takes the connections of one listener and hands each, by its ALPN protocol, to
// the part that speaks it.
package pki
