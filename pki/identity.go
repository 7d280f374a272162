package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
)

// Spec describes a certificate that is wanted.
type Spec struct {
	// Name is the file's base name in the directory of keys ("admin").
	Name string
	// CommonName is the user; Groups are the organisations.
	CommonName string
	Groups     []string
	// Hosts are the DNS names and IP addresses under which the holder serves; empty for one that is only a client.
	Hosts []string
}

// AdminSpec is the administrator's certificate: CN=admin, O=system:masters.
func AdminSpec() Spec {
	return Spec{Name: "admin", CommonName: "admin", Groups: []string{GroupMasters}}
}

// ServerSpec is a control-plane member's certificate, with which it serves the shared port, speaks raft with the other
// members and calls the agents. hosts are all names and addresses under which clients reach it.
func ServerSpec(member string, hosts []string) Spec {
	return Spec{Name: "server", CommonName: "reconcile:server:" + member, Groups: []string{GroupServers, GroupMasters}, Hosts: hosts}
}

// NodeSpec is an agent's certificate: user system:node:NAME, group system:nodes. The agent's HTTPS endpoint uses it too;
// servers that call it check the node's name, not its address.
func NodeSpec(node string, hosts []string) Spec {
	return Spec{Name: "node-" + node, CommonName: UserNodePrefix + node, Groups: []string{GroupNodes}, Hosts: append([]string{node}, hosts...)}
}

// Identity is a signed certificate with its key.
type Identity struct {
	// Cert is what TLS presents.
	Cert tls.Certificate
	// CertFile and KeyFile are where both lie as PEM.
	CertFile, KeyFile string
	// CertPEM and KeyPEM are their contents.
	CertPEM, KeyPEM []byte
}

// Identity loads the certificate of a name from the directory, or signs a new one if there is none, or if the one there is not
// of this authority, has less than a day to live, or does not say what is wanted. It blocks on the disk.
func (a *Authority) Identity(want Spec) (Identity, error) {
	cert, key, err := a.read(want.Name)
	if err == nil && a.fits(cert, want) {
		return a.identity(want.Name, cert.Raw, key)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Identity{}, fmt.Errorf("load the certificate of %s: %w", want.CommonName, err)
	}
	return a.sign(want)
}

// fits tells whether a certificate found on disk is what is wanted.
func (a *Authority) fits(cert *x509.Certificate, want Spec) bool {
	groups := slices.Sorted(slices.Values(want.Groups))
	have := slices.Sorted(slices.Values(cert.Subject.Organization))
	if cert.CheckSignatureFrom(a.cert) != nil || cert.Subject.CommonName != want.CommonName || !slices.Equal(groups, have) {
		return false
	}
	if cert.NotAfter.Before(a.cfg.Now().AddDate(0, 0, 1)) {
		return false
	}
	return !slices.ContainsFunc(want.Hosts, func(h string) bool { return cert.VerifyHostname(h) != nil })
}

func (a *Authority) sign(want Spec) (Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Identity{}, fmt.Errorf("make the key of %s: %w", want.CommonName, err)
	}
	serial, err := newSerial()
	if err != nil {
		return Identity{}, err
	}
	now := a.cfg.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: want.CommonName, Organization: want.Groups},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(leafLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if len(want.Hosts) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	for _, h := range want.Hosts {
		if ip, err := netip.ParseAddr(h); err == nil {
			template.IPAddresses = append(template.IPAddresses, net.IP(ip.AsSlice()))
			continue
		}
		template.DNSNames = append(template.DNSNames, h)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return Identity{}, fmt.Errorf("sign the certificate of %s: %w", want.CommonName, err)
	}
	if err := a.write(want.Name, der, key); err != nil {
		return Identity{}, err
	}
	return a.identity(want.Name, der, key)
}

func (a *Authority) identity(name string, der []byte, key *ecdsa.PrivateKey) (Identity, error) {
	keyPEM, err := encodeKey(key)
	if err != nil {
		return Identity{}, err
	}
	return Identity{
		Cert:     tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		CertFile: a.file(name, ".crt"),
		KeyFile:  a.file(name, ".key"),
		CertPEM:  encodeCert(der),
		KeyPEM:   keyPEM,
	}, nil
}
