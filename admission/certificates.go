package admission

import (
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/kubernetes/pkg/apis/certificates"

	"reconcile/object"
)

// CheckSubject refuses a request for a client certificate of system:masters, whom no later rule could hold back, as Kubernetes' admission plugin
// CertificateSubjectRestriction does (Forbidden). It passes for everything else.
func CheckSubject(o object.Object) error {
	r, ok := o.(*certificatesv1.CertificateSigningRequest)
	if !ok || r.Spec.SignerName != certificatesv1.KubeAPIServerClientSignerName {
		return nil
	}
	req, err := certificates.ParseCSR(r.Spec.Request)
	if err != nil {
		return apierrors.NewForbidden(certificatesv1.Resource("certificatesigningrequests"), r.Name, fmt.Errorf("failed to parse CSR: %w", err))
	}
	if slices.Contains(req.Subject.Organization, "system:masters") {
		return apierrors.NewForbidden(certificatesv1.Resource("certificatesigningrequests"), r.Name, fmt.Errorf("use of %s signer with system:masters group is not allowed", r.Spec.SignerName))
	}
	return nil
}
