package object

import (
	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// certificatesKinds are the kinds of the group certificates.
var certificatesKinds = []Kind{
	{GVK: certificatesv1.SchemeGroupVersion.WithKind("CertificateSigningRequest"), Resource: "certificatesigningrequests", Singular: "certificatesigningrequest", ShortNames: []string{"csr"},
		Status: true, Selectable: csrFields, Subresources: requestSubresources, make: of[certificatesv1.CertificateSigningRequest]},
}

func csrFields(o Object, set fields.Set) {
	set["spec.signerName"] = o.(*certificatesv1.CertificateSigningRequest).Spec.SignerName
}
