package admission

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	coredefaults "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/core/v1/helper/qos"

	"reconcile/object"
)

// PrepareCreate makes a new object ready to be stored, as the API server's strategies do: UID, creation time, generation, the
// initial status. A UID that the object already has is kept if uid is empty. It changes o.
func PrepareCreate(o object.Object, uid types.UID, now time.Time) {
	if uid != "" {
		o.SetUID(uid)
	}
	o.SetCreationTimestamp(metav1.NewTime(now.Truncate(time.Second)))
	o.SetResourceVersion("")
	o.SetDeletionTimestamp(nil)
	o.SetDeletionGracePeriodSeconds(nil)
	o.SetSelfLink("")
	r, k := rulesFor(o)
	if k.Status && r.create != nil && !r.bornWithStatus {
		setStatus(o, nil)
	}
	o.SetGeneration(0)
	if r.counts {
		o.SetGeneration(1)
	}
	if r.begin != nil {
		r.begin(o, now)
	}
	r.mark(o)
}

// mark writes what every object of the kind has.
func (r rules) mark(o object.Object) {
	if r.always != nil {
		r.always(o)
	}
}

// namespaceLabel gives a namespace the label with its name.
func namespaceLabel(o object.Object) {
	labels := make(map[string]string, len(o.GetLabels())+1)
	maps.Copy(labels, o.GetLabels())
	labels[corev1.LabelMetadataName] = o.GetName()
	o.SetLabels(labels)
}

// PrepareUpdate makes a replacement of old ready to be stored: what a client may not change is taken from old (UID, creation
// and deletion time, status where the kind has a status subresource), and the generation grows if the specification changed.
// It changes o; o may share memory with old afterwards.
func PrepareUpdate(o, old object.Object) {
	keepMeta(o, old)
	r, k := rulesFor(o)
	if k.Status {
		setStatus(o, old)
	}
	if r.keep != nil {
		r.keep(o, old)
	}
	PrepareGeneration(o, old)
	r.mark(o)
}

// PrepareStatusUpdate makes a write of the status subresource ready to be stored: everything but the status and, for most kinds, the metadata that a
// client may change comes from old. It changes o.
func PrepareStatusUpdate(o, old object.Object, now time.Time) {
	r, _ := rulesFor(o)
	next := shallow(old)
	setStatus(next, o)
	labels, notes, managed, owners, finalizers := o.GetLabels(), o.GetAnnotations(), o.GetManagedFields(), o.GetOwnerReferences(), o.GetFinalizers()
	assign(o, next)
	o.SetManagedFields(managed)
	switch {
	case r.reportsMeta:
		o.SetLabels(over(o.GetLabels(), labels))
		o.SetAnnotations(over(o.GetAnnotations(), notes))
	case !r.strictStatus:
		o.SetLabels(labels)
		o.SetAnnotations(notes)
		o.SetOwnerReferences(owners)
		o.SetFinalizers(finalizers)
	}
	KeepGitOwner(o, old)
	r.mark(o)
	if r.keepStatus != nil {
		r.keepStatus(o, old, now)
	}
}

// KeepReported takes from the stored object the metadata that comes with the report of a status, where who reports may not change it or has perhaps not
// seen it: an agent, or who names no version. Nodes are different: their agents report labels and annotations. It changes o.
func KeepReported(o, old object.Object) {
	if r, _ := rulesFor(o); r.reportsMeta {
		return
	}
	o.SetLabels(old.GetLabels())
	o.SetAnnotations(old.GetAnnotations())
	o.SetFinalizers(old.GetFinalizers())
	o.SetOwnerReferences(old.GetOwnerReferences())
}

// PrepareRequester writes into a new object who asks for it, where its kind wants to know. It changes o.
func PrepareRequester(o object.Object, user string, groups []string) {
	if r, _ := rulesFor(o); r.named != nil {
		r.named(o, user, groups)
	}
}

// over returns base with more on top; neither is changed.
func over(base, more map[string]string) map[string]string {
	if len(more) == 0 {
		return base
	}
	out := maps.Clone(base)
	if out == nil {
		out = make(map[string]string, len(more))
	}
	maps.Copy(out, more)
	return out
}

// Complete is the admission of what controllers write: defaults and metadata for a creation, the generation for an update. It
// has the shape of controller.Admit; the objects come from our own code and from templates that were validated when they were
// written, so it does not validate.
func Complete(o, old object.Object, now time.Time) error {
	k, err := object.KindOfObject(o)
	if err != nil {
		return err
	}
	if o.GetObjectKind().GroupVersionKind() != k.GVK {
		o.GetObjectKind().SetGroupVersionKind(k.GVK)
	}
	if old != nil {
		completeGeneration(o, old)
		return nil
	}
	if o.GetCreationTimestamp().Time.IsZero() {
		o.SetCreationTimestamp(metav1.NewTime(now.Truncate(time.Second)))
	}
	r, _ := rulesFor(o)
	if r.counts {
		o.SetGeneration(1)
	}
	if r.finish != nil {
		r.finish(o)
		return nil
	}
	if r.begin != nil {
		r.begin(o, now)
	}
	r.mark(o)
	Default(o)
	return nil
}

// finishPod completes a pod that a controller made of a template: the template's defaults were filled in with its owner, and what is left is what only a
// pod has.
func finishPod(o object.Object) {
	p := o.(*corev1.Pod)
	PodDefaults(p)
	defaultTolerations(p)
	if p.Status.Phase == "" {
		p.Status.Phase = corev1.PodPending
	}
	if p.Status.QOSClass == "" {
		p.Status.QOSClass = qos.ComputePodQOS(p)
	}
}

// PodDefaults fills in what Kubernetes defaults in pods and not in their templates: requests from limits, enableServiceLinks. It changes p, and
// nothing that p shares with its template.
func PodDefaults(p *corev1.Pod) {
	for _, list := range []*[]corev1.Container{&p.Spec.Containers, &p.Spec.InitContainers} {
		*list = slices.Clone(*list)
		for i := range *list {
			r := &(*list)[i].Resources
			r.Requests = maps.Clone(r.Requests)
			(*list)[i].Ports = slices.Clone((*list)[i].Ports)
		}
	}
	p.Spec.Resources = p.Spec.Resources.DeepCopy()
	coredefaults.SetDefaults_Pod(p)
}

// completeGeneration sets the generation of a controller's update. A controller writes annotations beside the status, which
// does not count.
func completeGeneration(o, old object.Object) {
	if r, k := rulesFor(o); r.counts && !r.countsClients && k.Status && specChanged(o, old) {
		o.SetGeneration(old.GetGeneration() + 1)
	}
}

// tolerationSeconds is for how long a pod stays on a node that is not ready or not heard of, as the API server's admission
// plugin DefaultTolerationSeconds sets it.
const tolerationSeconds = 300

// defaultTolerations gives a pod that does not say it otherwise the two tolerations of that plugin.
func defaultTolerations(p *corev1.Pod) {
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		if slices.ContainsFunc(p.Spec.Tolerations, func(t corev1.Toleration) bool {
			return (t.Key == key || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "")
		}) {
			continue
		}
		seconds := int64(tolerationSeconds)
		p.Spec.Tolerations = append(slices.Clip(p.Spec.Tolerations), corev1.Toleration{
			Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds})
	}
}

func keepMeta(o, old object.Object) {
	o.SetUID(old.GetUID())
	o.SetCreationTimestamp(old.GetCreationTimestamp())
	o.SetDeletionTimestamp(old.GetDeletionTimestamp())
	o.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	o.SetGeneration(old.GetGeneration())
	o.SetSelfLink("")
	o.SetGenerateName(old.GetGenerateName())
}

// PrepareGeneration sets the generation of a replacement: one more than old's if the specification changed.
func PrepareGeneration(o, old object.Object) {
	r, _ := rulesFor(o)
	if !r.counts {
		return
	}
	grows := specChanged
	if r.grows != nil {
		grows = r.grows
	}
	o.SetGeneration(old.GetGeneration())
	if grows(o, old) {
		o.SetGeneration(old.GetGeneration() + 1)
	}
}

// dropUseless takes from a service whose type has changed what only its former type has a use for, if the update did not change it: who changes the
// type alone means that.
func dropUseless(o, old *corev1.Service) {
	external := func(s *corev1.Service) bool {
		return s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer || s.Spec.Type == corev1.ServiceTypeClusterIP && len(s.Spec.ExternalIPs) > 0
	}
	balanced := func(s *corev1.Service) bool { return s.Spec.Type == corev1.ServiceTypeLoadBalancer }
	n, was := &o.Spec, &old.Spec
	if was.Type != corev1.ServiceTypeExternalName && n.Type == corev1.ServiceTypeExternalName && n.ClusterIP == was.ClusterIP && slices.Equal(n.ClusterIPs, was.ClusterIPs) {
		n.ClusterIP, n.ClusterIPs, n.IPFamilies, n.IPFamilyPolicy, n.InternalTrafficPolicy = "", nil, nil, nil, nil
	}
	if external(old) && !external(o) && n.ExternalTrafficPolicy == was.ExternalTrafficPolicy {
		n.ExternalTrafficPolicy = ""
	}
	if checksHealth(old) && !checksHealth(o) && n.HealthCheckNodePort == was.HealthCheckNodePort {
		n.HealthCheckNodePort = 0
	}
	if balanced(old) && !balanced(o) {
		if equal(n.LoadBalancerClass, was.LoadBalancerClass) {
			n.LoadBalancerClass = nil
		}
		if equal(n.AllocateLoadBalancerNodePorts, was.AllocateLoadBalancerNodePorts) {
			n.AllocateLoadBalancerNodePorts = nil
		}
	}
}

// dropBalancer takes the address of a load balancer from a service that has none any more.
func dropBalancer(o *corev1.Service) {
	if o.Spec.Type != corev1.ServiceTypeLoadBalancer {
		o.Status.LoadBalancer = corev1.LoadBalancerStatus{}
	}
}

// keepServiceAddress keeps the addresses and node ports of a service whose update leaves them out, as the API server does.
func keepServiceAddress(o, old *corev1.Service) {
	keepNodePorts(o, old)
	keepHealthPort(o, old)
	dropUseless(o, old)
	if o.Spec.Type == corev1.ServiceTypeExternalName || old.Spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	n, was := &o.Spec, &old.Spec
	if n.ClusterIP == "" {
		n.ClusterIP = was.ClusterIP
	}
	switch same := slices.Equal(n.ClusterIPs, was.ClusterIPs); {
	case n.ClusterIP == was.ClusterIP && len(n.ClusterIPs) == 0:
		n.ClusterIPs = was.ClusterIPs
	case n.ClusterIP != was.ClusterIP && (same || len(n.ClusterIPs) == 0):
		n.ClusterIPs = []string{n.ClusterIP}
	}
	if len(o.Spec.IPFamilies) == 0 {
		o.Spec.IPFamilies = old.Spec.IPFamilies
	}
	if o.Spec.IPFamilyPolicy == nil {
		o.Spec.IPFamilyPolicy = old.Spec.IPFamilyPolicy
	}
}
