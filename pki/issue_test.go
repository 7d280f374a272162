package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"testing"
	"time"
)

// TestIssue: a certificate is the authority's, two servers make the same one of the same request, and requests of one key get numbers of their own.
func TestIssue(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	issuer := func() *Issuer {
		a, err := Open(Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		i, err := a.Issuer()
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	one, two := issuer(), issuer()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Truncate(time.Second)
	want := x509.Certificate{Subject: pkix.Name{CommonName: "bob", Organization: []string{"dev"}}, NotBefore: now, NotAfter: now.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true}
	issue := func(i *Issuer, unique string) []byte {
		b, err := i.Issue(want, key.Public(), unique)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	a, b, c := issue(one, "u1"), issue(two, "u1"), issue(one, "u2")
	if !bytes.Equal(a, b) {
		t.Error("two servers make two certificates of one request")
	}
	parse := func(b []byte) *x509.Certificate {
		block, rest := pem.Decode(b)
		if block == nil || len(rest) > 0 {
			t.Fatalf("not one PEM block: %s", b)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	cert, other := parse(a), parse(c)
	if cert.SerialNumber.Cmp(other.SerialNumber) == 0 {
		t.Error("two requests share a serial number")
	}
	roots := x509.NewCertPool()
	roots.AddCert(one.cert)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err == nil {
		t.Error("a client's certificate is good for a server")
	}
	if !cert.PublicKey.(*ecdsa.PublicKey).Equal(key.Public()) || cert.Subject.CommonName != "bob" || cert.IsCA {
		t.Errorf("the certificate is %v", cert)
	}
	if _, err := one.Issue(want, "no key", "u"); err == nil {
		t.Error("a certificate was signed for no key")
	}
}
