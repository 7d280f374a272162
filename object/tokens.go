package object

// LegacyTokenIssuer is who a token of a Secret says has made it, as in Kubernetes.
const LegacyTokenIssuer = "kubernetes/serviceaccount"

// LegacyToken are the claims of the token that a Secret of type kubernetes.io/service-account-token holds, by Kubernetes' names. It has no end of
// its own: it holds while the Secret and the account are there.
type LegacyToken struct {
	Issuer    string `json:"iss"`
	Namespace string `json:"kubernetes.io/serviceaccount/namespace"`
	Secret    string `json:"kubernetes.io/serviceaccount/secret.name"`
	// SecretUID is not in Kubernetes' tokens. It makes the token of a Secret that is made again another one, so that a deletion ends the old one for good.
	SecretUID  string `json:"kubernetes.io/serviceaccount/secret.uid"`
	Account    string `json:"kubernetes.io/serviceaccount/service-account.name"`
	AccountUID string `json:"kubernetes.io/serviceaccount/service-account.uid"`
	Subject    string `json:"sub"`
}
