package controllers

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/quota/v1/generic"
	"k8s.io/client-go/informers"
	"k8s.io/kubernetes/pkg/controller/resourcequota"
	"k8s.io/kubernetes/pkg/quota/v1/install"

	"reconcile/object"
)

// runQuotas starts Kubernetes' controller of ResourceQuotas. It counts everything anew every three seconds; what it would learn of its monitors sooner
// is not about what it counts.
func (p *peer) runQuotas() {
	f := informers.NewSharedInformerFactory(p.client, 0)
	ctx := p.t.Context()
	conf, err := install.NewQuotaConfigurationForControllers(generic.ListerFuncForResourceFunc(f.ForResource), f)
	if err != nil {
		p.t.Fatal(err)
	}
	c, err := resourcequota.NewController(ctx, &resourcequota.ControllerOptions{QuotaClient: p.client.CoreV1(), ResourceQuotaInformer: f.Core().V1().ResourceQuotas(),
		ResyncPeriod: func() time.Duration { return 3 * time.Second }, Registry: generic.NewRegistry(conf.Evaluators()), ReplenishmentResyncPeriod: func() time.Duration { return time.Hour }})
	if err != nil {
		p.t.Fatal(err)
	}
	for _, resource := range []string{"configmaps", "secrets", "services", "persistentvolumeclaims"} { // those that nobody else here asks for
		if _, err := f.ForResource(gvrOf(resource)); err != nil {
			p.t.Fatal(err)
		}
	}
	p.run(f, func() { c.Run(ctx, 1) })
}

// quotaLines is what quotas show: what is used of what they limit.
func quotaLines(s side) (out []string) {
	amounts := func(list corev1.ResourceList) string {
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(list)) {
			q := list[name]
			parts = append(parts, fmt.Sprintf("%s=%d", name, q.MilliValue()))
		}
		return strings.Join(parts, " ")
	}
	for _, o := range s.list("resourcequotas") {
		q := o.(*corev1.ResourceQuota)
		out = append(out, fmt.Sprintf("quota %s: %s of %s", q.Name, amounts(q.Status.Used), amounts(q.Status.Hard)))
	}
	return out
}

// quota is one that limits amounts: name, amount, …
func quota(name string, scopes []corev1.ResourceQuotaScope, hard ...string) *corev1.ResourceQuota {
	q := &corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{Scopes: scopes, Hard: corev1.ResourceList{}}}
	q.Name = name
	for i := 0; i < len(hard); i += 2 {
		q.Spec.Hard[corev1.ResourceName(hard[i])] = kresource.MustParse(hard[i+1])
	}
	return q
}

// podFor draws a pod of nobody.
func podFor(m *match, name string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}}, Spec: template(nil, "v1", corev1.RestartPolicyNever).Spec}
	amounts := func() corev1.ResourceRequirements {
		r := corev1.ResourceRequirements{}
		if !m.flip(3) {
			r.Requests = corev1.ResourceList{"cpu": *kresource.NewMilliQuantity(int64(m.rng.IntN(500)), kresource.DecimalSI), "example.org/gpu": *kresource.NewQuantity(int64(m.rng.IntN(3)), kresource.DecimalSI)}
			r.Limits = corev1.ResourceList{"cpu": *kresource.NewMilliQuantity(int64(500+m.rng.IntN(500)), kresource.DecimalSI), "memory": *kresource.NewQuantity(int64(m.rng.IntN(9))<<20, kresource.BinarySI),
				"example.org/gpu": r.Requests["example.org/gpu"]}
		}
		return r
	}
	p.Spec.Containers[0].Resources = amounts()
	if m.flip(3) {
		p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "i", Resources: amounts()}}
	}
	if m.flip(3) {
		p.Spec.Overhead = corev1.ResourceList{"cpu": kresource.MustParse("10m")}
	}
	if m.flip(3) {
		p.Spec.ActiveDeadlineSeconds = ref(int64(100000))
	}
	if m.flip(3) {
		p.Spec.PriorityClassName = pick(m, "high", "low")
	}
	return p
}

// TestQuotas compares what ResourceQuotas count: pods by scope that come, end and go, services, claims of classes and other objects.
func TestQuotas(t *testing.T) {
	made := 0
	play(t, 40, func(m *match) {
		made = 0
		m.lines = quotaLines
		m.a.(*peer).runQuotas()
		api := &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 443}}}} // ours is made by a controller, Kubernetes' by the API server
		api.Name = "kubernetes"
		m.a.make(api)
		m.make(quota("all", nil, "pods", "100", "cpu", "100", "requests.memory", "100Gi", "limits.cpu", "100", "limits.memory", "100Gi", "requests.example.org/gpu", "100", "count/pods", "100",
			"services", "50", "services.nodeports", "50", "services.loadbalancers", "50", "configmaps", "50", "count/secrets", "50", "resourcequotas", "9",
			"persistentvolumeclaims", "50", "requests.storage", "1Ti", "fast.storageclass.storage.k8s.io/requests.storage", "1Ti", "fast.storageclass.storage.k8s.io/persistentvolumeclaims", "50"))
		for _, s := range []corev1.ResourceQuotaScope{corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating} {
			hard := []string{"pods", "100"}
			if s != corev1.ResourceQuotaScopeBestEffort {
				hard = append(hard, "requests.cpu", "100")
			}
			m.make(quota(strings.ToLower(string(s)), []corev1.ResourceQuotaScope{s}, hard...))
		}
		high := quota("high", nil, "pods", "100", "requests.cpu", "100")
		high.Spec.ScopeSelector = &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{{ScopeName: corev1.ResourceQuotaScopePriorityClass,
			Operator: pick(m, corev1.ScopeSelectorOpIn, corev1.ScopeSelectorOpNotIn), Values: []string{"high"}}}}
		m.make(high)
	}, func(m *match) {
		made++
		name := fmt.Sprintf("o%d", made)
		for done := false; !done; {
			switch n := m.rng.IntN(14); {
			case n < 4:
				p := podFor(m, name)
				m.say("make pod %s, of %v and %v, deadline %v, %q", name, p.Spec.Containers[0].Resources, p.Spec.InitContainers, p.Spec.ActiveDeadlineSeconds != nil, p.Spec.PriorityClassName)
				m.make(p)
				done = true
			case n == 4:
				done = m.start()
			case n == 5:
				done = m.end(int32(m.rng.IntN(2)), alive)
			case n == 6 || n == 7:
				// It does not outlive its grace period, after which Kubernetes counts it no more, but notices it only when it looks again.
				if done = m.kill(); done {
					m.wait(pause)
					m.compare()
					m.remove()
				}
			case n == 8:
				s := &corev1.Service{Spec: corev1.ServiceSpec{Type: pick(m, corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer), Ports: []corev1.ServicePort{{Name: "a", Port: 80}, {Name: "b", Port: 81}}}}
				if s.Spec.Type == corev1.ServiceTypeLoadBalancer && m.flip(2) {
					s.Spec.AllocateLoadBalancerNodePorts = ref(false)
				}
				s.Name = name
				m.say("make service %s %s", name, s.Spec.Type)
				m.make(s)
				done = true
			case n == 9 || n == 10:
				c := &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: pick(m, ref("fast"), ref("slow"), ref("")),
					Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": *kresource.NewQuantity(int64(m.rng.IntN(20))<<30, kresource.BinarySI)}}}}
				c.Name = name
				m.say("make claim %s of %s", name, *c.Spec.StorageClassName)
				m.make(c)
				done = true
			case n == 11:
				var o object.Object = &corev1.ConfigMap{}
				if m.flip(2) {
					o = &corev1.Secret{}
				}
				o.SetName(name)
				m.say("make %T %s", o, name)
				m.make(o)
				done = true
			case n == 12:
				resource := pick(m, "services", "configmaps", "secrets")
				victim := m.some(resource, func(o object.Object) bool { return strings.HasPrefix(o.GetName(), "o") })
				if done = victim != ""; done {
					m.say("delete %s %s", resource, victim)
					m.deleteNamed(resource, victim)
				}
			case n == 13:
				more := kresource.MustParse(fmt.Sprint(100 + m.rng.IntN(9)))
				m.say("limit of pods %s", more.String())
				m.edit("resourcequotas", "all", func(o object.Object) { o.(*corev1.ResourceQuota).Spec.Hard["pods"] = more })
				done = true
			}
		}
	})
}
