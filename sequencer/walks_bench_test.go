package sequencer

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"reconcile/admission"
	"reconcile/cluster"
	"reconcile/controller"
	"reconcile/object"
)

// crowd is a namespace with apps of so many replicas, all running and ready, and what looks at them: a budget and a service for one app, and
// what else is given.
func crowd(b *testing.B, apps, replicas int, more ...object.Object) *rig {
	r := newBenchRig(b, 40)
	for i := range apps {
		r.must(write(Create, deployment(fmt.Sprintf("web%d", i), int32(replicas))))
	}
	for _, o := range more {
		r.must(write(Create, o))
	}
	var ops []Op
	n := 0
	for o := range cluster.NewView(r.store.View()).List("pods", "d") {
		p := object.Copy(o).(*corev1.Pod)
		n++
		p.Status.Phase, p.Status.PodIP = corev1.PodRunning, fmt.Sprintf("10.244.%d.%d", n/250, n%250+1)
		p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}}
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
		ops = append(ops, write(UpdateStatus, p))
	}
	for len(ops) > 0 {
		r.renew()
		k := min(1000, len(ops))
		r.must(ops[:k]...)
		ops = ops[k:]
	}
	return r
}

func budgetOf(app string) *policyv1.PodDisruptionBudget {
	most := intstr.FromString("10%")
	return &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: app},
		Spec: policyv1.PodDisruptionBudgetSpec{MaxUnavailable: &most, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}}}
}

func serviceOf(app string) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: app}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": app}, Ports: []corev1.ServicePort{{Port: 80}}}}
	admission.Default(s)
	return s
}

func quotaOfAll() *corev1.ResourceQuota {
	return &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{
		"pods": resource.MustParse("100k"), "requests.cpu": resource.MustParse("10k"), "requests.memory": resource.MustParse("100Ti")}}}
}

func autoscaler(app string) *autoscalingv2.HorizontalPodAutoscaler {
	half := int32(50)
	return &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: app}, Spec: autoscalingv2.HorizontalPodAutoscalerSpec{MaxReplicas: 20000,
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: app},
		Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: corev1.ResourceCPU,
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &half}}}}}}
}

// renew has every node heard of.
func (r *rig) renew() {
	var ops []Op
	for o := range cluster.NewView(r.store.View()).List("leases", corev1.NamespaceNodeLease) {
		l, now := object.Copy(o).(*coordinationv1.Lease), metav1.NowMicro()
		l.Spec.RenewTime = &now
		ops = append(ops, write(Update, l))
	}
	r.must(ops...)
}

// settles measures the Settle that follows a change of the state that the rig has, and commits nothing.
func (r *rig) settles(b *testing.B, name string, triggers []controller.Trigger, change func(o *cluster.Overlay)) {
	set, err := controller.NewSet(controller.Config{ClusterID: "bench", ServiceRange: netip.MustParsePrefix("10.96.0.0/16"), PodRange: netip.MustParsePrefix("10.128.0.0/9")})
	if err != nil {
		b.Fatal(err)
	}
	r.renew()
	b.Run(name, func(b *testing.B) {
		v := cluster.NewView(r.store.View())
		now, ops := time.Now().Add(20*time.Second), 0 // an autoscaler looks by then
		for b.Loop() {
			o := cluster.NewOverlay(v)
			if change != nil {
				change(o)
			}
			ops = controller.Settle(set, o, append(set.Triggers(o, changes(o)), triggers...), now, 1<<20, admission.Complete).Ops
		}
		b.ReportMetric(float64(ops), "writes")
	})
}

func (r *rig) firstPod(app string) *corev1.Pod {
	for o := range cluster.NewView(r.store.View()).List("pods", "d") {
		if o.GetLabels()["app"] == app {
			return o.(*corev1.Pod)
		}
	}
	r.t.Fatal("there is no pod of " + app)
	return nil
}

// unreadied puts a pod that is no longer ready.
func unreadied(p *corev1.Pod) func(o *cluster.Overlay) {
	next := object.Copy(p)
	next.Status.Conditions[len(next.Status.Conditions)-1].Status = corev1.ConditionFalse
	return func(o *cluster.Overlay) { o.Put(next) }
}

// BenchmarkPodOfCrowd is what one pod's change costs in a namespace of 10,000, and of 1,000, pods.
func BenchmarkPodOfCrowd(b *testing.B) {
	for _, apps := range []int{10, 100} {
		name := fmt.Sprintf("/pods=%d", 100*apps)
		r := crowd(b, apps, 100)
		r.settles(b, "owner"+name, nil, unreadied(r.firstPod("web0")))
		r.must(write(Create, budgetOf("web0")))
		r.settles(b, "budget of 100"+name, nil, unreadied(r.firstPod("web0")))
		r.must(Op{Verb: Delete, Key: object.Key{Resource: "poddisruptionbudgets", Namespace: "d", Name: "web0"}}, write(Create, serviceOf("web0")))
		r.settles(b, "service of 100"+name, nil, unreadied(r.firstPod("web0")))
		r.must(write(Create, autoscaler("web0")))
		r.settles(b, "autoscaler of 100"+name, []controller.Trigger{{Controller: "horizontalpodautoscaler", Key: object.Key{Resource: "horizontalpodautoscalers", Namespace: "d", Name: "web0"}}}, nil)
		r.must(write(Create, quotaOfAll()))
		r.settles(b, "quota"+name, []controller.Trigger{{Controller: "resourcequota", Key: object.Key{Resource: "resourcequotas", Namespace: "d", Name: "q"}}}, nil)
		bare := object.Copy(r.firstPod("web0"))
		bare.Name, bare.OwnerReferences, bare.Labels = "bare", nil, nil
		b.Run("quota, a client's pod"+name, func(b *testing.B) {
			v := cluster.NewView(r.store.View())
			for b.Loop() {
				o := cluster.NewOverlay(v)
				had := controller.BeforeWrite(o, bare, nil, time.Now())
				o.Put(bare)
				if err := had.After(o); err != nil {
					b.Fatal(err)
				}
			}
		})
		r.stop()
	}
}

// BenchmarkPodOfOne is what one pod's change costs where one Deployment, and its service and budget, have all the pods.
func BenchmarkPodOfOne(b *testing.B) {
	for _, pods := range []int{1000, 10000} {
		name := fmt.Sprintf("/pods=%d", pods)
		r := crowd(b, 1, pods)
		r.settles(b, "owner"+name, nil, unreadied(r.firstPod("web0")))
		r.must(write(Create, budgetOf("web0")))
		r.settles(b, "budget"+name, nil, unreadied(r.firstPod("web0")))
		r.must(Op{Verb: Delete, Key: object.Key{Resource: "poddisruptionbudgets", Namespace: "d", Name: "web0"}}, write(Create, serviceOf("web0")))
		r.settles(b, "service"+name, nil, unreadied(r.firstPod("web0")))
		o, _ := cluster.NewView(r.store.View()).Get(object.Key{Resource: "deployments", Namespace: "d", Name: "web0"})
		d := object.Copy(o).(*appsv1.Deployment)
		none := int32(0)
		d.Spec.Replicas = &none
		r.settles(b, "scale to none"+name, nil, func(o *cluster.Overlay) { o.Put(d) })
		r.stop()
	}
}

// BenchmarkNodeOfMany is what one node's change costs at 1,000 and 5,000 nodes with two DaemonSets.
func BenchmarkNodeOfMany(b *testing.B) {
	for _, nodes := range []int{1000, 5000} {
		r := newBenchRig(b, nodes)
		for _, app := range []string{"one", "two"} {
			labels := map[string]string{"app": app}
			ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: app}, Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels},
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "example/web:1"}}}}}}
			admission.Default(ds)
			r.must(write(Create, ds))
		}
		o, _ := cluster.NewView(r.store.View()).Get(object.Key{Resource: "nodes", Name: "n00"})
		node := func(change func(n *corev1.Node)) func(o *cluster.Overlay) {
			n := object.Copy(o).(*corev1.Node)
			n.Labels = maps.Clone(n.Labels)
			change(n)
			return func(o *cluster.Overlay) { o.Put(n) }
		}
		name := fmt.Sprintf("/nodes=%d", nodes)
		r.settles(b, "a label"+name, nil, node(func(n *corev1.Node) { metav1.SetMetaDataLabel(&n.ObjectMeta, "x", "y") }))
		r.settles(b, "a taint"+name, nil, node(func(n *corev1.Node) {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "x", Effect: corev1.TaintEffectNoSchedule})
		}))
		r.settles(b, "not ready"+name, nil, node(func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionFalse }))
		r.settles(b, "a daemon is ready"+name, nil, func(o *cluster.Overlay) {
			p := object.Copy(r.firstPod("one"))
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
			o.Put(p)
		})
		r.settles(b, "nodes' networks"+name, []controller.Trigger{{Controller: "node-ipam", Key: object.Key{Resource: "nodes"}}}, nil)
		r.stop()
	}
}

// BenchmarkVolumeOfMany is what a new claim, and a volume that becomes free, cost among 1,000 and 10,000 volumes that are bound.
func BenchmarkVolumeOfMany(b *testing.B) {
	for _, volumes := range []int{1000, 10000} {
		r := newBenchRig(b, 1)
		class, size := "manual", corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
		volume := func(name string) *corev1.PersistentVolume {
			pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeSpec{StorageClassName: class, Capacity: size,
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/x"}}}}
			admission.Default(pv)
			return pv
		}
		claim := func(name string) *corev1.PersistentVolumeClaim {
			c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name}, Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &class,
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, Resources: corev1.VolumeResourceRequirements{Requests: size}}}
			admission.Default(c)
			return c
		}
		for from := 0; from < volumes; from += 250 {
			var pvs, claims []Op
			for i := from; i < from+250; i++ {
				pvs = append(pvs, write(Create, volume(fmt.Sprintf("v%05d", i))))
				claims = append(claims, write(Create, claim(fmt.Sprintf("c%05d", i))))
			}
			r.must(pvs...)
			r.must(claims...)
		}
		name := fmt.Sprintf("/volumes=%d", volumes)
		c, pv := claim("new"), volume("new")
		c.UID, pv.UID, pv.Status.Phase = "c", "pv", corev1.VolumeAvailable
		r.settles(b, "a claim"+name, nil, func(o *cluster.Overlay) { o.Put(object.Copy(c)) })
		r.settles(b, "a volume"+name, nil, func(o *cluster.Overlay) { o.Put(object.Copy(pv)) })
		r.stop()
	}
}
