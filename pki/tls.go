package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
)

// The protocols of the shared port, as ALPN names them.
const (
	ProtoRaft    = "raft/1"
	ProtoForward = "fwd/1"
	ProtoH2      = "h2"
	ProtoHTTP1   = "http/1.1"
)

// ServerTLS is the TLS of the shared port: all protocols; a client's certificate is optional and, if given, must be of the
// authority. Mux refuses raft/1 and fwd/1 to all but servers.
func ServerTLS(id Identity, clients *x509.CertPool) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{id.Cert},
		ClientAuth:   tls.VerifyClientCertIfGiven,
		ClientCAs:    clients,
		NextProtos:   []string{ProtoRaft, ProtoForward, ProtoH2, ProtoHTTP1},
	}
}

// AgentTLS is the TLS of an agent's endpoint for logs and streams: only servers' and administrators' certificates get in, and
// only HTTP/1.1 is spoken, because streams upgrade the connection.
func AgentTLS(id Identity, clients *x509.CertPool) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{id.Cert},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    clients,
		NextProtos:   []string{ProtoHTTP1},
		VerifyConnection: func(cs tls.ConnectionState) error {
			if !InGroup(cs, GroupServers) && !InGroup(cs, GroupMasters) {
				return fmt.Errorf("the client is neither a server nor an administrator of this cluster")
			}
			return nil
		},
	}
}

// ClientTLS is a client's TLS: it presents id and trusts the authority alone. serverName, if not empty, is the name that the
// server's certificate must hold instead of the dialled host.
func ClientTLS(id Identity, servers *x509.CertPool, serverName string, protos ...string) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{id.Cert},
		RootCAs:      servers,
		ServerName:   serverName,
		NextProtos:   protos,
	}
}

// InGroup tells whether the peer presented a certificate of the authority that names the group.
func InGroup(cs tls.ConnectionState, group string) bool {
	return len(cs.VerifiedChains) > 0 && slices.Contains(cs.VerifiedChains[0][0].Subject.Organization, group)
}

// Dial opens a connection to a server's shared port for one protocol, raft/1 or fwd/1. addr is HOST:PORT. It fails if the server
// does not speak the protocol, or is no server of this cluster.
func Dial(ctx context.Context, addr, proto string, id Identity, servers *x509.CertPool) (net.Conn, error) {
	d := tls.Dialer{Config: ClientTLS(id, servers, "", proto)}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connect to %s for %s: %w", addr, proto, err)
	}
	cs := conn.(*tls.Conn).ConnectionState()
	if cs.NegotiatedProtocol != proto || !InGroup(cs, GroupServers) {
		conn.Close()
		return nil, fmt.Errorf("connect to %s for %s: what answers there is no server of this cluster", addr, proto)
	}
	return conn, nil
}
