package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// FromKubeconfig reads the configuration out of a kubeconfig: the current context's server first, then the other clusters of the
// same authority. It blocks on reading the file.
func FromKubeconfig(path string, log *slog.Logger) (Config, error) {
	raw, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read the kubeconfig %s: %w", path, err)
	}
	rc, err := clientcmd.NewDefaultClientConfig(*raw, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return Config{}, fmt.Errorf("read the kubeconfig %s: %w", path, err)
	}
	cfg := Config{Servers: []string{rc.Host}, Log: log}
	if cfg.TLS, err = tlsOf(rc); err != nil {
		return Config{}, fmt.Errorf("read the kubeconfig %s: %w", path, err)
	}
	for _, name := range slices.Sorted(maps.Keys(raw.Clusters)) {
		c := raw.Clusters[name]
		if c.Server != rc.Host && string(c.CertificateAuthorityData) == string(rc.CAData) {
			cfg.Servers = append(cfg.Servers, c.Server)
		}
	}
	return cfg, nil
}

func tlsOf(rc *rest.Config) (*tls.Config, error) {
	if err := rest.LoadTLSFiles(rc); err != nil {
		return nil, err
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: rc.ServerName}
	if len(rc.CAData) > 0 {
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(rc.CAData) {
			return nil, errors.New("certificate-authority-data holds no certificate")
		}
	}
	if len(rc.CertData) > 0 {
		cert, err := tls.X509KeyPair(rc.CertData, rc.KeyData)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		out.Certificates = []tls.Certificate{cert}
	}
	return out, nil
}
