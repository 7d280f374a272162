package controller_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/controller"
	"reconcile/object"
	"reconcile/pki"
)

// authority is a cluster's authority that was made when the transcripts begin: what it signs certificates and tokens with.
func authority(t testing.TB) (*pki.Issuer, *pki.Tokens) {
	t.Helper()
	a, err := pki.Open(pki.Config{Dir: t.TempDir(), Now: func() time.Time { return time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC) }})
	if err != nil {
		t.Fatal(err)
	}
	i, err := a.Issuer()
	if err != nil {
		t.Fatal(err)
	}
	k, err := a.Tokens()
	if err != nil {
		t.Fatal(err)
	}
	return i, k
}

// request makes a CertificateSigningRequest as the API server would store it:
//
//	csr NAME signer=S usages=(a,b) cn=CN org=(O,…) [dns=(N,…)] [ip=A] [email=E] [ttl=SECONDS] [user=U] [groups=(G,…)] [forged] [stored]
//
// forged spoils the signature of the request, stored is for one that the API would not take.
func (w *world) request(d *datadriven.TestData) error {
	seed := sha256.Sum256([]byte(d.CmdArgs[0].Key))
	key := ed25519.NewKeyFromSeed(seed[:])
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: val(d, "cn", ""), Organization: vals(d, "org")}, DNSNames: vals(d, "dns"), EmailAddresses: vals(d, "email")}
	for _, a := range vals(d, "ip") {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(a))
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return err
	}
	if has(d, "forged") {
		der[len(der)-1] ^= 1
	}
	r := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: d.CmdArgs[0].Key}}
	r.SetGroupVersionKind(certificatesv1.SchemeGroupVersion.WithKind("CertificateSigningRequest"))
	r.Spec.Request = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	r.Spec.SignerName, r.Spec.Username, r.Spec.Groups = val(d, "signer", ""), val(d, "user", "somebody"), vals(d, "groups")
	for _, u := range vals(d, "usages") {
		r.Spec.Usages = append(r.Spec.Usages, certificatesv1.KeyUsage(strings.ReplaceAll(u, "-", " ")))
	}
	if s := val(d, "ttl", ""); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			return err
		}
		seconds := int32(n)
		r.Spec.ExpirationSeconds = &seconds
	}
	if has(d, "stored") {
		r.UID, r.CreationTimestamp = controller.HashUID("test", r.Name), metav1.NewTime(w.now)
		w.state.Put(r)
		return nil
	}
	return w.put(r)
}

// approve notes the decision about a request: approve|deny NAME.
func (w *world) approve(d *datadriven.TestData) error {
	o, ok := w.state.Get(object.Key{Resource: "certificatesigningrequests", Name: d.CmdArgs[0].Key})
	if !ok {
		return fmt.Errorf("there is no request %s", d.CmdArgs[0].Key)
	}
	r := object.Copy(o.(*certificatesv1.CertificateSigningRequest))
	c := certificatesv1.CertificateSigningRequestCondition{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "KubectlApprove", LastUpdateTime: metav1.NewTime(w.now)}
	if d.Cmd == "deny" {
		c.Type, c.Reason = certificatesv1.CertificateDenied, "KubectlDeny"
	}
	r.Status.Conditions = append(r.Status.Conditions, c)
	w.state.Put(r)
	return nil
}

// showTokens prints the Secrets of service accounts: whose token each holds, as the token itself says.
func (w *world) showTokens(b *strings.Builder) {
	for o := range w.state.List("secrets", "") {
		s := o.(*corev1.Secret)
		fmt.Fprintf(b, "%s/%s %s keys=%v", s.Namespace, s.Name, s.Type, slices.Sorted(maps.Keys(s.Data)))
		if uid := s.Annotations[corev1.ServiceAccountUIDKey]; uid != "" {
			fmt.Fprintf(b, " account=%.8s", uid)
		}
		if parts := strings.Split(string(s.Data["token"]), "."); len(parts) == 3 {
			claims, err := base64.RawURLEncoding.DecodeString(parts[1])
			if err != nil {
				w.t.Fatal(err)
			}
			fmt.Fprintf(b, " %s", claims)
		}
		b.WriteByte('\n')
	}
	for o := range w.state.List("serviceaccounts", "") {
		a := o.(*corev1.ServiceAccount)
		fmt.Fprintf(b, "%s/%s %.8s", a.Namespace, a.Name, a.UID)
		for _, r := range a.Secrets {
			fmt.Fprintf(b, " lists %s", r.Name)
		}
		b.WriteByte('\n')
	}
}

func (w *world) showRequests(b *strings.Builder) {
	for o := range w.state.List("certificatesigningrequests", "") {
		r := o.(*certificatesv1.CertificateSigningRequest)
		fmt.Fprintf(b, "%s", r.Name)
		for _, c := range r.Status.Conditions {
			fmt.Fprintf(b, " %s=%s %s at %s", c.Type, c.Status, c.Reason, clock(&c.LastUpdateTime))
			if c.Message != "" {
				fmt.Fprintf(b, " (%s)", c.Message)
			}
		}
		if len(r.Status.Conditions) == 0 {
			b.WriteString(" pending")
		}
		b.WriteByte('\n')
		if len(r.Status.Certificate) == 0 {
			continue
		}
		block, _ := pem.Decode(r.Status.Certificate)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			w.t.Fatal(err)
		}
		from, to := metav1.NewTime(cert.NotBefore), metav1.NewTime(cert.NotAfter)
		fmt.Fprintf(b, "  %s dns=%v ip=%v email=%v usage=%b extended=%v authority=%v from %s to %s\n", cert.Subject, cert.DNSNames, cert.IPAddresses, cert.EmailAddresses, cert.KeyUsage, cert.ExtKeyUsage, cert.IsCA, clock(&from), clock(&to))
	}
}
