package controller

import (
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// Signer signs certificates with the key of the cluster's authority. It is a function of its arguments: a forecast and the commit, and two
// servers, get the same bytes.
type Signer interface {
	// Issue signs what template says for the public key, with a serial number that follows from all of it and from unique, and returns the
	// certificate in PEM form.
	Issue(template x509.Certificate, public any, unique string) ([]byte, error)
	// Expires is when the authority's own certificate ends.
	Expires() time.Time
}

// legacyUnknown is the signer of requests that name none, which certificates.k8s.io/v1beta1 allowed. The API takes no new one; some may be stored.
const legacyUnknown = "kubernetes.io/legacy-unknown"

// Groups and names of certificates.
const (
	groupNodes   = "system:nodes"
	groupMasters = "system:masters"
	// groupServers are the members of the control plane. Nobody becomes one by a request: their keys come with the authority's.
	groupServers   = "reconcile:servers"
	userNodePrefix = "system:node:"
)

// How long certificates hold, and how long requests stay (kube-controller-manager's defaults).
const (
	certificateLife     = 365 * 24 * time.Hour
	certificateLeast    = 10 * time.Minute
	certificateBackdate = 5 * time.Minute
	// certificateShort is the life from which on the backdate is taken off the end: it is about a hundredth then.
	certificateShort = 8 * time.Hour
	decidedStays     = time.Hour
	undecidedStays   = 24 * time.Hour
)

// certificates approves CertificateSigningRequests of nodes for themselves, signs those that are approved and name one of Kubernetes' signers,
// and removes old ones. Its input are the requests, its output their status.
type certificates struct{ signer Signer }

func (certificates) Name() string      { return "csrsigning" }
func (certificates) Watches() []string { return []string{"certificatesigningrequests"} }

func (certificates) Keys(_ View, ch Change, emit func(object.Key)) {
	if ch.New != nil {
		emit(ch.Key)
	}
}

func (c certificates) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	o, ok := v.Get(key)
	if !ok || o.GetDeletionTimestamp() != nil {
		return Result{}, nil
	}
	r := o.(*certificatesv1.CertificateSigningRequest)
	if at := requestEnds(r); !at.IsZero() && !at.After(now) {
		return Result{Delete: []Deletion{{Key: key}}}, nil
	}
	next := object.Copy(r)
	err := c.decide(next, now)
	return Result{Put: []object.Object{next}, Wake: requestEnds(next)}, err
}

// decide approves and signs r, as far as it is time for that. An error is for a request that may come to be signed.
func (c certificates) decide(r *certificatesv1.CertificateSigningRequest, now time.Time) error {
	check := signerRules[r.Spec.SignerName]
	if c.signer == nil || check == nil || len(r.Status.Certificate) > 0 || requestCondition(r, certificatesv1.CertificateDenied) != nil || requestCondition(r, certificatesv1.CertificateFailed) != nil {
		return nil
	}
	req, err := parseRequest(r.Spec.Request)
	if err != nil {
		return fmt.Errorf("read the request of %s: %w", r.Name, err)
	}
	if requestCondition(r, certificatesv1.CertificateApproved) == nil {
		message := autoApproved(r, req)
		if message == "" {
			return nil
		}
		addCondition(r, certificatesv1.CertificateApproved, "AutoApproved", message, now)
	}
	if err := check(req, r.Spec.Usages); err != nil {
		addCondition(r, certificatesv1.CertificateFailed, "SignerValidationFailure", err.Error(), now)
		return nil
	}
	if ends := c.signer.Expires(); !now.Before(ends) {
		return fmt.Errorf("sign the request %s: the signer has expired: NotAfter=%v", r.Name, ends)
	}
	cert, err := c.sign(r, req, now)
	if err != nil {
		// Kubernetes tries again for ever; what is wrong with a request stays so, because its specification never changes.
		addCondition(r, certificatesv1.CertificateFailed, "SigningFailure", err.Error(), now)
		return nil
	}
	r.Status.Certificate = cert
	return nil
}

// sign makes the certificate that r asks for: the subject and the names of the request, the usages and the life of its specification. No other
// extension of the request is taken over, and nobody gets an authority.
func (c certificates) sign(r *certificatesv1.CertificateSigningRequest, req *x509.CertificateRequest, now time.Time) ([]byte, error) {
	if err := req.CheckSignature(); err != nil {
		return nil, fmt.Errorf("verify the request's signature: %w", err)
	}
	usage, extended, err := keyUsages(r.Spec.Usages)
	if err != nil {
		return nil, err
	}
	life := certificateLife
	if s := r.Spec.ExpirationSeconds; s != nil {
		life = min(max(time.Duration(*s)*time.Second, certificateLeast), certificateLife)
	}
	until := now.Add(life)
	if life >= certificateShort {
		until = until.Add(-certificateBackdate)
	}
	if ends := c.signer.Expires(); until.After(ends) {
		until = ends
	}
	return c.signer.Issue(x509.Certificate{
		Subject: req.Subject, DNSNames: req.DNSNames, IPAddresses: req.IPAddresses, EmailAddresses: req.EmailAddresses, URIs: req.URIs,
		KeyUsage: usage, ExtKeyUsage: extended, BasicConstraintsValid: true,
		NotBefore: now.Add(-certificateBackdate), NotAfter: until,
	}, req.PublicKey, string(r.UID))
}

// requestEnds is when a request is removed, the earliest of Kubernetes' reasons; zero for not yet known.
func requestEnds(r *certificatesv1.CertificateSigningRequest) time.Time {
	var ends time.Time
	by := func(t metav1.Time, stays time.Duration) {
		if at := t.Add(stays); !t.IsZero() && (ends.IsZero() || at.Before(ends)) {
			ends = at
		}
	}
	issued := len(r.Status.Certificate) > 0
	for _, c := range r.Status.Conditions {
		switch {
		case c.Type == certificatesv1.CertificateApproved && !issued:
			by(c.LastUpdateTime, undecidedStays)
		case c.Type == certificatesv1.CertificateApproved, c.Type == certificatesv1.CertificateDenied, c.Type == certificatesv1.CertificateFailed:
			by(c.LastUpdateTime, decidedStays)
		}
	}
	if len(r.Status.Conditions) == 0 {
		by(r.CreationTimestamp, undecidedStays)
	}
	if block, _ := pem.Decode(r.Status.Certificate); block != nil && requestCondition(r, certificatesv1.CertificateApproved) != nil {
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			by(metav1.NewTime(cert.NotAfter), 0)
		}
	}
	return ends
}

func requestCondition(r *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) *certificatesv1.CertificateSigningRequestCondition {
	for i := range r.Status.Conditions {
		if c := &r.Status.Conditions[i]; c.Type == t && c.Status != corev1.ConditionFalse {
			return c
		}
	}
	return nil
}

func addCondition(r *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType, reason, message string, now time.Time) {
	at := metav1.NewTime(now.Truncate(time.Second))
	r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: t, Status: corev1.ConditionTrue, Reason: reason, Message: message, LastUpdateTime: at, LastTransitionTime: at,
	})
}

// autoApproved is why a request needs nobody's approval, or empty. Who may ask for a node's client certificate is in Kubernetes a right
// (certificatesigningrequests/nodeclient and selfnodeclient); here masters have both, and a node the one for itself.
func autoApproved(r *certificatesv1.CertificateSigningRequest, req *x509.CertificateRequest) string {
	if r.Spec.SignerName != certificatesv1.KubeAPIServerClientKubeletSignerName || kubeletClient(req, r.Spec.Usages) != nil {
		return ""
	}
	master := slices.Contains(r.Spec.Groups, groupMasters)
	switch {
	case r.Spec.Username == req.Subject.CommonName && (master || slices.Contains(r.Spec.Groups, groupNodes)):
		return "Auto approving self kubelet client certificate after SubjectAccessReview."
	case master:
		return "Auto approving kubelet client certificate after SubjectAccessReview."
	}
	return ""
}

func parseRequest(b []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	return x509.ParseCertificateRequest(block.Bytes)
}

// signerRules are what each signer demands of a request, in Kubernetes' words.
var signerRules = map[string]func(*x509.CertificateRequest, []certificatesv1.KeyUsage) error{
	certificatesv1.KubeletServingSignerName:             kubeletServing,
	certificatesv1.KubeAPIServerClientKubeletSignerName: kubeletClient,
	certificatesv1.KubeAPIServerClientSignerName:        apiClient,
	legacyUnknown: noServer,
}

// noServer refuses a certificate with which its holder would be a server of the cluster.
func noServer(req *x509.CertificateRequest, _ []certificatesv1.KeyUsage) error {
	if slices.Contains(req.Subject.Organization, groupServers) {
		return fmt.Errorf("the organization %s is that of the cluster's servers, whose certificates are not asked for", groupServers)
	}
	return nil
}

func apiClient(req *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	for _, u := range usages {
		if !slices.Contains([]certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, certificatesv1.UsageClientAuth}, u) {
			return fmt.Errorf("invalid usage for client certificate: %s", u)
		}
	}
	if !slices.Contains(usages, certificatesv1.UsageClientAuth) {
		return fmt.Errorf("missing required usage for client certificate: %s", certificatesv1.UsageClientAuth)
	}
	return noServer(req, usages)
}

func kubeletClient(req *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	switch {
	case !slices.Equal(req.Subject.Organization, []string{groupNodes}):
		return errNotNodes
	case len(req.DNSNames) > 0:
		return errors.New("DNS subjectAltNames are not allowed")
	case len(req.EmailAddresses) > 0:
		return errEmail
	case len(req.IPAddresses) > 0:
		return errors.New("IP subjectAltNames are not allowed")
	case len(req.URIs) > 0:
		return errURI
	case !strings.HasPrefix(req.Subject.CommonName, userNodePrefix):
		return errNotNode
	}
	return exactUsages(usages, certificatesv1.UsageClientAuth)
}

func kubeletServing(req *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	switch {
	case !slices.Equal(req.Subject.Organization, []string{groupNodes}):
		return errNotNodes
	case len(req.DNSNames) == 0 && len(req.IPAddresses) == 0:
		return errors.New("DNS or IP subjectAltName is required")
	case len(req.EmailAddresses) > 0:
		return errEmail
	case len(req.URIs) > 0:
		return errURI
	}
	if err := exactUsages(usages, certificatesv1.UsageServerAuth); err != nil {
		return err
	}
	if !strings.HasPrefix(req.Subject.CommonName, userNodePrefix) {
		return errNotNode
	}
	return nil
}

var (
	errNotNodes = errors.New("subject organization is not system:nodes")
	errNotNode  = errors.New("subject common name does not begin with system:node:") //nolint:staticcheck // Kubernetes' words
	errEmail    = errors.New("Email subjectAltNames are not allowed")                //nolint:staticcheck // Kubernetes' words
	errURI      = errors.New("URI subjectAltNames are not allowed")
)

// exactUsages demands auth and digital signature; key encipherment, which only RSA needs, may be there.
func exactUsages(usages []certificatesv1.KeyUsage, auth certificatesv1.KeyUsage) error {
	want := []string{string(auth), string(certificatesv1.UsageDigitalSignature), string(certificatesv1.UsageKeyEncipherment)}
	slices.Sort(want)
	have := map[string]bool{string(certificatesv1.UsageKeyEncipherment): true}
	for _, u := range usages {
		have[string(u)] = true
	}
	if !slices.Equal(slices.Sorted(maps.Keys(have)), want) {
		return fmt.Errorf("usages did not match %v", want)
	}
	return nil
}

// keyUsages are the usages as X.509 has them (RFC 5280, sections 4.2.1.3 and 4.2.1.12).
func keyUsages(usages []certificatesv1.KeyUsage) (x509.KeyUsage, []x509.ExtKeyUsage, error) {
	var usage x509.KeyUsage
	var extended []x509.ExtKeyUsage
	var unknown []certificatesv1.KeyUsage
	for _, u := range usages {
		if bit, ok := plainUsages[u]; ok {
			usage |= bit
		} else if e, ok := extendedUsages[u]; ok {
			extended = append(extended, e)
		} else {
			unknown = append(unknown, u)
		}
	}
	if len(unknown) > 0 {
		return 0, nil, fmt.Errorf("unrecognized usage values: %q", unknown)
	}
	slices.SortFunc(extended, cmp.Compare)
	return usage, slices.Compact(extended), nil
}

var plainUsages = map[certificatesv1.KeyUsage]x509.KeyUsage{
	certificatesv1.UsageSigning:           x509.KeyUsageDigitalSignature,
	certificatesv1.UsageDigitalSignature:  x509.KeyUsageDigitalSignature,
	certificatesv1.UsageContentCommitment: x509.KeyUsageContentCommitment,
	certificatesv1.UsageKeyEncipherment:   x509.KeyUsageKeyEncipherment,
	certificatesv1.UsageKeyAgreement:      x509.KeyUsageKeyAgreement,
	certificatesv1.UsageDataEncipherment:  x509.KeyUsageDataEncipherment,
	certificatesv1.UsageCertSign:          x509.KeyUsageCertSign,
	certificatesv1.UsageCRLSign:           x509.KeyUsageCRLSign,
	certificatesv1.UsageEncipherOnly:      x509.KeyUsageEncipherOnly,
	certificatesv1.UsageDecipherOnly:      x509.KeyUsageDecipherOnly,
}

var extendedUsages = map[certificatesv1.KeyUsage]x509.ExtKeyUsage{
	certificatesv1.UsageAny:             x509.ExtKeyUsageAny,
	certificatesv1.UsageServerAuth:      x509.ExtKeyUsageServerAuth,
	certificatesv1.UsageClientAuth:      x509.ExtKeyUsageClientAuth,
	certificatesv1.UsageCodeSigning:     x509.ExtKeyUsageCodeSigning,
	certificatesv1.UsageEmailProtection: x509.ExtKeyUsageEmailProtection,
	certificatesv1.UsageSMIME:           x509.ExtKeyUsageEmailProtection,
	certificatesv1.UsageIPsecEndSystem:  x509.ExtKeyUsageIPSECEndSystem,
	certificatesv1.UsageIPsecTunnel:     x509.ExtKeyUsageIPSECTunnel,
	certificatesv1.UsageIPsecUser:       x509.ExtKeyUsageIPSECUser,
	certificatesv1.UsageTimestamping:    x509.ExtKeyUsageTimeStamping,
	certificatesv1.UsageOCSPSigning:     x509.ExtKeyUsageOCSPSigning,
	certificatesv1.UsageMicrosoftSGC:    x509.ExtKeyUsageMicrosoftServerGatedCrypto,
	certificatesv1.UsageNetscapeSGC:     x509.ExtKeyUsageNetscapeServerGatedCrypto,
}
