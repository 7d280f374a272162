package controller

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// rootCAName is the ConfigMap of a namespace that holds the cluster's certificate authority.
const rootCAName = "kube-root-ca.crt"

// namespaceDefaults gives each namespace what Kubernetes' pods and charts expect to find there: the ServiceAccount default, and the
// ConfigMap with the authority's certificate. Its input are namespaces and these objects, its output what is missing of them.
type namespaceDefaults struct {
	cluster string
	// rootCA is the certificate in PEM form; without it there is no ConfigMap.
	rootCA string
}

func (namespaceDefaults) Name() string { return "namespace-defaults" }
func (namespaceDefaults) Watches() []string {
	return []string{"namespaces", "serviceaccounts", "configmaps"}
}

func (namespaceDefaults) Keys(_ View, ch Change, emit func(object.Key)) {
	switch {
	case ch.Key.Resource == "namespaces" && ch.New != nil && ch.Old == nil:
		emit(ch.Key)
	case ch.Key.Resource == "serviceaccounts" && ch.New == nil && ch.Key.Name == "default", ch.Key.Resource == "configmaps" && ch.Key.Name == rootCAName:
		emit(object.Key{Resource: "namespaces", Name: ch.Key.Namespace})
	}
}

func (c namespaceDefaults) Reconcile(v View, key object.Key, _ time.Time) (Result, error) {
	ns, ok := v.Get(key)
	if !ok || ns.GetDeletionTimestamp() != nil {
		return Result{}, nil
	}
	var res Result
	account := object.Key{Resource: "serviceaccounts", Namespace: key.Name, Name: "default"}
	if _, there := v.Get(account); !there {
		sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account.Name, Namespace: account.Namespace, UID: HashUID("serviceaccount", c.cluster, string(ns.GetUID()), again(v, ns))}}
		sa.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ServiceAccount"))
		res.Put = append(res.Put, sa)
	}
	if c.rootCA == "" {
		return res, nil
	}
	certificate := object.Key{Resource: "configmaps", Namespace: key.Name, Name: rootCAName}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: certificate.Name, Namespace: certificate.Namespace, UID: HashUID("configmap", c.cluster, string(ns.GetUID()), again(v, ns)),
		Annotations: map[string]string{"kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. " +
			"No other usage is guaranteed across distributions of Kubernetes clusters."}}}
	cm.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ConfigMap"))
	if o, there := v.Get(certificate); there {
		cm = object.Copy(o.(*corev1.ConfigMap))
	}
	cm.Data = map[string]string{"ca.crt": c.rootCA}
	res.Put = append(res.Put, cm)
	return res, nil
}
