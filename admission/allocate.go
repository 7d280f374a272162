package admission

import (
	"errors"
	"fmt"
	"hash/fnv"
	"iter"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"reconcile/object"
)

// View is the state that admission looks at.
type View interface {
	Get(object.Key) (object.Object, bool)
	List(resource, namespace string) iter.Seq[object.Object]
}

// Ranges are the address ranges that services are given addresses from.
type Ranges struct {
	// Services is the range of cluster IPs. Its first address is default/kubernetes', its tenth kube-system/kube-dns'.
	Services netip.Prefix
}

// API is the address of service default/kubernetes.
func (r Ranges) API() netip.Addr { return r.nth(1) }

// DNS is the address of the cluster's DNS.
func (r Ranges) DNS() netip.Addr { return r.nth(10) }

func (r Ranges) nth(n uint32) netip.Addr {
	a := r.Services.Masked().Addr().As4()
	v := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	v += n
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

// reserved tells which service alone may have the address.
func (r Ranges) reserved(a netip.Addr) (object.Key, bool) {
	switch a {
	case r.API():
		return object.Key{Resource: "services", Namespace: "default", Name: "kubernetes"}, true
	case r.DNS():
		return object.Key{Resource: "services", Namespace: "kube-system", Name: "kube-dns"}, true
	}
	return object.Key{}, false
}

// Allocate gives a service what it needs from the cluster's ranges: the cluster IP and node ports, or the check of those it asks for.
// old is the stored object or nil. The choice is a function of the key and of what is taken in v, so that plan and commit
// choose alike; an address or port is free again when no service in v has it. It changes o, and does nothing for other kinds. Errors
// are Invalid API errors.
func Allocate(v View, o, old object.Object, r Ranges) error {
	svc, ok := o.(*corev1.Service)
	if !ok || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	if err := allocateAddress(v, svc, old, r); err != nil {
		return err
	}
	if err := allocateNodePorts(v, svc); err != nil {
		return err
	}
	return allocateHealthPort(v, svc)
}

func allocateAddress(v View, svc *corev1.Service, old object.Object, r Ranges) error {
	if svc.Spec.ClusterIP == "" && len(svc.Spec.ClusterIPs) > 0 {
		svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
	}
	if faults := settleFamilies(svc, old); len(faults) > 0 {
		return invalid(svc, faults...)
	}
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		svc.Spec.ClusterIPs = []string{corev1.ClusterIPNone}
		return nil
	}
	if was, ok := old.(*corev1.Service); ok && was.Spec.ClusterIP == svc.Spec.ClusterIP && svc.Spec.ClusterIP != "" {
		svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
		return nil
	}
	taken := map[string]object.Key{}
	key := object.KeyOf(svc)
	for other := range v.List("services", "") {
		s := other.(*corev1.Service)
		if k := object.KeyOf(s); k != key && s.Spec.ClusterIP != "" && s.Spec.ClusterIP != corev1.ClusterIPNone {
			taken[s.Spec.ClusterIP] = k
		}
	}
	if svc.Spec.ClusterIP != "" {
		if fault := r.check(svc.Spec.ClusterIP, key, taken); fault != "" {
			return invalid(svc, field.Invalid(field.NewPath("spec", "clusterIPs"), []string{svc.Spec.ClusterIP}, fault))
		}
	} else {
		ip, ok := r.pick(key, taken)
		if !ok {
			return invalid(svc, field.Invalid(field.NewPath("spec", "clusterIPs"), []string{}, "failed to allocate IP: range is full"))
		}
		svc.Spec.ClusterIP = ip.String()
	}
	svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
	return nil
}

// check returns what is wrong with an address that a manifest asks for, in Kubernetes' words.
func (r Ranges) check(ip string, key object.Key, taken map[string]object.Key) string {
	a, err := netip.ParseAddr(ip)
	if err == nil && !r.Services.Contains(a) {
		return fmt.Sprintf("failed to allocate IP %s: the provided network does not match the current range", ip)
	}
	if err != nil || a == r.Services.Masked().Addr() || a == r.last() {
		return fmt.Sprintf("failed to allocate IP %s: the provided IP (%s) is not in the valid range. The range of valid IPs is %s", ip, ip, r.Services)
	}
	if k, ok := taken[ip]; ok {
		return fmt.Sprintf("failed to allocate IP %s: provided IP is already allocated to %s", ip, k)
	}
	if k, ok := r.reserved(a); ok && k != key {
		return fmt.Sprintf("failed to allocate IP %s: it is kept for %s", ip, k)
	}
	return ""
}

func (r Ranges) last() netip.Addr { return r.nth(1<<(32-r.Services.Bits()) - 1) }

// pick chooses the address that the key's hash points to, or the next free one behind it.
func (r Ranges) pick(key object.Key, taken map[string]object.Key) (netip.Addr, bool) {
	for _, n := range []uint32{1, 10} {
		a := r.nth(n)
		if k, ok := r.reserved(a); ok && k == key {
			if _, used := taken[a.String()]; !used {
				return a, true
			}
		}
	}
	usable := uint32(1)<<(32-r.Services.Bits()) - 2
	h := fnv.New32a()
	h.Write([]byte(key.Path()))
	start := h.Sum32() % usable
	for i := uint32(0); i < usable; i++ {
		a := r.nth(1 + (start+i)%usable)
		if _, ok := r.reserved(a); ok {
			continue
		}
		if _, ok := taken[a.String()]; !ok {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func invalid(o object.Object, faults ...*field.Error) error {
	k, err := object.KindOfObject(o)
	if err != nil {
		return err
	}
	return apierrors.NewInvalid(k.GVK.GroupKind(), o.GetName(), faults)
}

// Invalid is the API error for the faults that Validate found, nil for none.
func Invalid(o object.Object, faults field.ErrorList) error {
	if len(faults) == 0 {
		return nil
	}
	return invalid(o, faults...)
}

// CheckNamespace refuses the creation of an object in a namespace that does not exist (NotFound) or that is being deleted
// (Forbidden), in Kubernetes' words. It passes for kinds without a namespace.
func CheckNamespace(v View, o object.Object) error {
	k, err := object.KindOfObject(o)
	if err != nil {
		return err
	}
	if !k.Namespaced {
		return nil
	}
	ns, ok := v.Get(object.Key{Resource: "namespaces", Name: o.GetNamespace()})
	if !ok {
		return apierrors.NewNotFound(corev1.Resource("namespaces"), o.GetNamespace())
	}
	if ns.GetDeletionTimestamp() == nil {
		return nil
	}
	e := apierrors.NewForbidden(k.GroupResource(), o.GetName(),
		fmt.Errorf("unable to create new content in namespace %s because it is being terminated", o.GetNamespace()))
	e.ErrStatus.Details.Causes = append(e.ErrStatus.Details.Causes, metav1.StatusCause{Type: corev1.NamespaceTerminatingCause,
		Message: fmt.Sprintf("namespace %s is being terminated", o.GetNamespace()), Field: "metadata.namespace"})
	return e
}

// CheckDelete refuses the deletion of the four namespaces that a cluster cannot be without, in Kubernetes' words. Whoever asks,
// the answer is the same.
func CheckDelete(o object.Object) error {
	if class, ok := o.(*schedulingv1.PriorityClass); ok && (class.Name == "system-cluster-critical" || class.Name == "system-node-critical") {
		return apierrors.NewForbidden(schedulingv1.Resource("priorityclasses"), class.Name, errors.New("this is a system priority class and cannot be deleted"))
	}
	ns, ok := o.(*corev1.Namespace)
	if !ok {
		return nil
	}
	switch ns.Name {
	case metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease:
		return apierrors.NewForbidden(corev1.Resource("namespaces"), ns.Name, errors.New("this namespace may not be deleted"))
	}
	return nil
}
