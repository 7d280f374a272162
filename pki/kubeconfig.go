package pki

import (
	"errors"
	"fmt"
	"strconv"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Kubeconfig describes a kubeconfig of one user for one cluster with one or more servers.
type Kubeconfig struct {
	// Cluster names the cluster, the context and begins the user's name.
	Cluster string
	// User names the user ("admin").
	User string
	// Servers are the API's URLs. The first is the current context's; each further one is a context CLUSTER-2, CLUSTER-3 ….
	Servers []string
	// CA is the authority's certificate as PEM.
	CA []byte
	// Identity is the user's certificate.
	Identity Identity
}

// Bytes is the kubeconfig as YAML.
func (k Kubeconfig) Bytes() ([]byte, error) {
	if len(k.Servers) == 0 {
		return nil, errors.New("write a kubeconfig: it needs at least one server's URL")
	}
	user := k.Cluster + "-" + k.User
	cfg := clientcmdapi.NewConfig()
	cfg.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: k.Identity.CertPEM, ClientKeyData: k.Identity.KeyPEM}
	cfg.CurrentContext = k.Cluster
	for i, server := range k.Servers {
		name := k.Cluster
		if i > 0 {
			name += "-" + strconv.Itoa(i+1)
		}
		cfg.Clusters[name] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: k.CA}
		cfg.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: user}
	}
	b, err := clientcmd.Write(*cfg)
	if err != nil {
		return nil, fmt.Errorf("write a kubeconfig: %w", err)
	}
	return b, nil
}

// Write stores the kubeconfig with mode 0600.
func (k Kubeconfig) Write(path string) error {
	b, err := k.Bytes()
	if err != nil {
		return err
	}
	return WriteFile(path, b)
}
