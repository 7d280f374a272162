package pki

import (
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"
)

// Issuer signs what others ask for with the authority's key, as a function of its arguments: every server makes the same certificate of the same
// request, so that a forecast and a commit agree. It is safe for use by several goroutines.
type Issuer struct {
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	serials []byte
}

// Issuer makes the authority's. The key of serial numbers follows from the authority's (HKDF with SHA-256, RFC 5869), like that of tokens.
func (a *Authority) Issuer() (*Issuer, error) {
	secret, err := a.key.Bytes()
	if err != nil {
		return nil, fmt.Errorf("derive the key of serial numbers: %w", err)
	}
	serials, err := hkdf.Key(sha256.New, secret, nil, "reconcile serial numbers of certificates v1", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the key of serial numbers: %w", err)
	}
	return &Issuer{cert: a.cert, key: a.key, serials: serials}, nil
}

// Expires is when the authority's own certificate ends.
func (i *Issuer) Expires() time.Time { return i.cert.NotAfter }

// Issue signs what template says for the public key, and returns the certificate in PEM form. The serial number is 127 bits of an HMAC (RFC 2104)
// of unique, the key and the times: nobody can foretell it, and no two requests share one. The signature is RFC 6979's, which needs no chance.
func (i *Issuer) Issue(template x509.Certificate, public any, unique string) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("read the public key: %w", err)
	}
	mac := hmac.New(sha256.New, i.serials)
	fmt.Fprintf(mac, "%d %s %d %x %d %d", len(unique), unique, len(der), der, template.NotBefore.Unix(), template.NotAfter.Unix())
	template.SerialNumber = new(big.Int).SetBytes(mac.Sum(nil)[:16])
	template.SerialNumber.Rsh(template.SerialNumber, 1)
	signed, err := x509.CreateCertificate(nil, &template, i.cert, public, i.key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	return encodeCert(signed), nil
}
