package pki

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
)

// read loads a certificate and its key. The error wraps fs.ErrNotExist if either is missing.
func (a *Authority) read(name string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	der, err := readPEM(a.file(name, ".crt"), "CERTIFICATE")
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", a.file(name, ".crt"), err)
	}
	der, err = readPEM(a.file(name, ".key"), "EC PRIVATE KEY")
	if err != nil {
		return nil, nil, err
	}
	key, err := x509.ParseECPrivateKey(der)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", a.file(name, ".key"), err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, nil, fmt.Errorf("%s is not the key of %s: restore the pair from a backup", a.file(name, ".key"), a.file(name, ".crt"))
	}
	return cert, key, nil
}

// write stores the key first: a certificate on disk always has its key.
func (a *Authority) write(name string, der []byte, key *ecdsa.PrivateKey) error {
	keyPEM, err := encodeKey(key)
	if err != nil {
		return err
	}
	// A pair is replaced by removing the old certificate first, so that no crash leaves a certificate with another's key.
	if err := os.Remove(a.file(name, ".crt")); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("replace the certificate: %w", err)
	}
	if err := WriteFile(a.file(name, ".key"), keyPEM); err != nil {
		return err
	}
	return WriteFile(a.file(name, ".crt"), encodeCert(der))
}

func readPEM(path, kind string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("read %s: it holds no PEM block %q", path, kind)
	}
	return block.Bytes, nil
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// WriteFile replaces a file by a whole new one with mode 0600, synced to disk before it takes the name.
func WriteFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
