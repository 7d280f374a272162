package controller

import (
	"net/netip"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

var defaultCIDRKey = object.Key{Resource: "servicecidrs", Name: "kubernetes"}

// serviceCIDR keeps the object that says from which range services are given their addresses, for those who ask Kubernetes' way. Nothing reads
// it here: the range is the servers' configuration.
type serviceCIDR struct {
	cluster  string
	services netip.Prefix
}

func (serviceCIDR) Name() string      { return "servicecidr" }
func (serviceCIDR) Watches() []string { return []string{defaultCIDRKey.Resource} }

// Start makes the object appear in an empty cluster.
func (serviceCIDR) Start() []object.Key { return []object.Key{defaultCIDRKey} }

func (serviceCIDR) Keys(_ View, ch Change, emit func(object.Key)) {
	if ch.Key == defaultCIDRKey {
		emit(ch.Key)
	}
}

func (c serviceCIDR) Reconcile(v View, key object.Key, now time.Time) (Result, error) {
	r := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: key.Name, UID: HashUID("servicecidr", c.cluster)},
		Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{c.services.Masked().String()}}}
	if live, ok := v.Get(key); ok {
		r = object.Copy(live).(*networkingv1.ServiceCIDR)
	}
	if r.DeletionTimestamp == nil && meta.FindStatusCondition(r.Status.Conditions, networkingv1.ServiceCIDRConditionReady) == nil {
		r.Status.Conditions = append(r.Status.Conditions, metav1.Condition{Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue,
			Message: "Kubernetes default Service CIDR is ready", LastTransitionTime: metav1.NewTime(now.Truncate(time.Second))})
	}
	return Result{Put: []object.Object{r}}, nil
}
