package sequencer

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"testing"
	"testing/synctest"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/raftstore"
)

// TestNobodyAsksToBeAMaster: a client certificate of system:masters is refused when it is asked for, whoever might approve it.
func TestNobodyAsksToBeAMaster(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request := func(signer string, groups ...string) *certificatesv1.CertificateSigningRequest {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "bob", Organization: groups}}, key)
		if err != nil {
			t.Fatal(err)
		}
		return &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "bob"}, Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: signer, Usages: []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth}}}
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, raftstore.MemoryStorage(), nil)
		defer r.stop()
		_, err := r.submit(write(Create, request(certificatesv1.KubeAPIServerClientSignerName, "dev", "system:masters")))
		refusedAs(t, err, `certificatesigningrequests.certificates.k8s.io "bob" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed`)
		r.must(write(Create, request(certificatesv1.KubeAPIServerClientSignerName, "dev")))
		other := request("example.com/signer", "system:masters")
		other.Name = "other"
		r.must(write(Create, other))
	})
}
