package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// The groups a certificate may name as its organisation.
const (
	// GroupMasters may do everything, as in Kubernetes.
	GroupMasters = "system:masters"
	// GroupNodes are the agents, as in Kubernetes; each is user UserNodePrefix+NAME.
	GroupNodes = "system:nodes"
	// GroupServers are the members of the control plane: only they may speak raft and forward writes, and only they may
	// ask an agent for logs and streams.
	GroupServers = "reconcile:servers"
	// UserNodePrefix begins the user name of an agent.
	UserNodePrefix = "system:node:"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	leafLife      = 365 * 24 * time.Hour
	// backdate makes a certificate good on machines whose clock is a little behind.
	backdate = 5 * time.Minute
)

// Config tells where keys are kept.
type Config struct {
	// Dir is the directory of all keys and certificates; it is made with mode 0700 if it does not exist.
	Dir string
	// Now gives the time of issue; nil is time.Now.
	Now func() time.Time
}

// Validate lists all faults of the configuration.
func (c Config) Validate() error {
	if c.Dir == "" {
		return errors.New("pki: Dir is empty: name the directory for keys, for example DATA_DIR/pki")
	}
	return nil
}

// Authority is the cluster's certificate authority with its private key. It is safe for use by several goroutines as long
// as they ask for identities of different names.
type Authority struct {
	cfg  Config
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// Open loads the authority of a directory (ca.crt, ca.key), or makes one if neither file is there. One file without the
// other is an error, because a new authority would lock everybody out. It blocks on the disk.
func Open(cfg Config) (*Authority, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of keys: %w", err)
	}
	a := &Authority{cfg: cfg}
	cert, key, err := a.read("ca")
	switch {
	case err == nil:
		return a.adopt(cert, key)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("load the certificate authority: %w", err)
	}
	for _, ext := range []string{".crt", ".key"} {
		if _, err := os.Stat(a.file("ca", ext)); err == nil {
			return nil, fmt.Errorf("load the certificate authority: %s is there but its pair is not: restore the missing file, or remove both to begin a new cluster", a.file("ca", ext))
		}
	}
	return a.create()
}

func (a *Authority) adopt(cert *x509.Certificate, key *ecdsa.PrivateKey) (*Authority, error) {
	if !cert.IsCA {
		return nil, fmt.Errorf("load the certificate authority: %s is no authority's certificate", a.file("ca", ".crt"))
	}
	a.cert, a.key, a.pem = cert, key, encodeCert(cert.Raw)
	return a, nil
}

func (a *Authority) create() (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the authority's key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := a.cfg.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "reconcile-ca"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(authorityLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign the authority's certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read back the authority's certificate: %w", err)
	}
	if err := a.write("ca", der, key); err != nil {
		return nil, err
	}
	return a.adopt(cert, key)
}

// PEM is the authority's certificate, to be given to clients. The caller must not change it.
func (a *Authority) PEM() []byte { return a.pem }

// CertFile is the path of the authority's certificate.
func (a *Authority) CertFile() string { return a.file("ca", ".crt") }

// Pool holds the authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func (a *Authority) file(name, ext string) string { return filepath.Join(a.cfg.Dir, name+ext) }

func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("draw a serial number: %w", err)
	}
	return serial, nil
}
