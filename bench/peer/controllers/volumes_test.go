package controllers

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/volume/persistentvolume"
	"k8s.io/kubernetes/pkg/controller/volume/pvcprotection"
	"k8s.io/kubernetes/pkg/controller/volume/pvprotection"

	"reconcile/controller"
	"reconcile/object"
)

// runVolumes starts Kubernetes' binder and the two controllers that keep storage in use from going.
func (p *peer) runVolumes() {
	f := informers.NewSharedInformerFactory(p.client, 0)
	ctx := p.t.Context()
	core := f.Core().V1()
	binder, err := persistentvolume.NewController(ctx, persistentvolume.ControllerParameters{KubeClient: p.client, SyncPeriod: 15 * time.Second, VolumeInformer: core.PersistentVolumes(),
		ClaimInformer: core.PersistentVolumeClaims(), ClassInformer: f.Storage().V1().StorageClasses(), PodInformer: core.Pods(), NodeInformer: core.Nodes(), EnableDynamicProvisioning: true})
	if err != nil {
		p.t.Fatal(err)
	}
	claims, err := pvcprotection.NewPVCProtectionController(klog.Background(), core.PersistentVolumeClaims(), core.Pods(), p.client)
	if err != nil {
		p.t.Fatal(err)
	}
	volumes := pvprotection.NewPVProtectionController(klog.Background(), core.PersistentVolumes(), p.client)
	p.run(f, func() { binder.Run(ctx) }, func() { claims.Run(ctx, 1) }, func() { volumes.Run(ctx, 1) })
}

// storageLines is what volumes and claims show.
func storageLines(s side) (out []string) {
	marks := func(o object.Object) string {
		var list []string
		for _, k := range slices.Sorted(maps.Keys(o.GetAnnotations())) {
			list = append(list, k+"="+o.GetAnnotations()[k])
		}
		list = append(list, o.GetFinalizers()...)
		if o.GetDeletionTimestamp() != nil {
			list = append(list, "going")
		}
		return strings.Join(list, " ")
	}
	for _, o := range s.list("persistentvolumes") {
		pv, ref := o.(*corev1.PersistentVolume), "nobody"
		if r := pv.Spec.ClaimRef; r != nil {
			ref = fmt.Sprintf("%s/%s (%v)", r.Namespace, r.Name, r.UID != "")
		}
		out = append(out, fmt.Sprintf("volume %s: %s of %s %q %s", pv.Name, pv.Status.Phase, ref, pv.Status.Message, marks(o)))
	}
	for _, o := range s.list("persistentvolumeclaims") {
		c := o.(*corev1.PersistentVolumeClaim)
		out = append(out, fmt.Sprintf("claim %s: %s on %q %v %s %s", c.Name, c.Status.Phase, c.Spec.VolumeName, c.Status.AccessModes, c.Status.Capacity.Storage(), marks(o)))
	}
	return out
}

// deleteNamed deletes an object by name on both sides.
func (m *match) deleteNamed(resource, name string) {
	for _, s := range []side{m.a, m.b} {
		for _, o := range s.list(resource) {
			if o.GetName() == name {
				zero := int64(0)
				s.delete(o, controller.DeleteOptions{GracePeriodSeconds: &zero})
			}
		}
	}
}

// some is the name of an object that both sides have, empty if there is none.
func (m *match) some(resource string, fits func(object.Object) bool) string {
	var names []string
	for _, o := range m.a.list(resource) {
		if fits(o) {
			names = append(names, o.GetName())
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return pick(m, names...)
}

// TestVolumes compares volumes and claims that come, name each other, are bound, used, released and go. At most one claim of a class waits, no
// two volumes are of one size, and no two are kept for one claim: which of equal ones Kubernetes takes is chance.
func TestVolumes(t *testing.T) {
	made := 0
	play(t, 40, func(m *match) {
		made = 0
		m.lines = storageLines
		m.a.(*peer).runVolumes()
		for name, provisioner := range map[string]string{"cloud": "disks.example.org", "local": "kubernetes.io/no-provisioner"} {
			mode := storagev1.VolumeBindingImmediate
			c := &storagev1.StorageClass{Provisioner: provisioner, VolumeBindingMode: &mode}
			c.Name = name
			m.make(c)
		}
	}, func(m *match) {
		for done := false; !done; {
			switch n := m.rng.IntN(14); {
			case n < 4:
				done = m.newVolume(&made)
			case n < 8:
				done = m.newClaim(&made)
			case n == 8:
				name := m.some("persistentvolumeclaims", func(o object.Object) bool { return o.(*corev1.PersistentVolumeClaim).Status.Phase == corev1.ClaimBound })
				if done = name != ""; done {
					made++
					m.say("a pod of %s", name)
					p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("p%d", made)}, Spec: template(nil, "v1", corev1.RestartPolicyAlways).Spec}
					p.Spec.NodeName = "n"
					p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}}}
					m.make(p)
				}
			case n < 11:
				resource := pick(m, "persistentvolumeclaims", "persistentvolumeclaims", "pods", "persistentvolumes")
				name := m.some(resource, func(o object.Object) bool { return o.GetDeletionTimestamp() == nil })
				if done = name != ""; done {
					m.say("delete %s %s", resource, name)
					m.deleteNamed(resource, name)
				}
			case n == 11:
				name := m.some("persistentvolumes", func(o object.Object) bool { return o.(*corev1.PersistentVolume).Status.Phase == corev1.VolumeReleased })
				if done = name != ""; done {
					m.say("free %s", name)
					m.edit("persistentvolumes", name, func(o object.Object) { o.(*corev1.PersistentVolume).Spec.ClaimRef = nil })
				}
			default:
				m.say("wait")
				done = true
			}
		}
		// Kubernetes looks for claims that wait each 15 s.
		m.wait(40 * time.Second)
	})
}

func (m *match) newVolume(made *int) bool {
	size := int64(1 + m.rng.IntN(40))
	for _, o := range m.a.list("persistentvolumes") {
		q := o.(*corev1.PersistentVolume).Spec.Capacity[corev1.ResourceStorage]
		if q.Value() == size<<30 {
			return false
		}
	}
	*made++
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("v%d", *made)}, Spec: corev1.PersistentVolumeSpec{
		Capacity:                      corev1.ResourceList{corev1.ResourceStorage: *kresource.NewQuantity(size<<30, kresource.BinarySI)},
		StorageClassName:              pick(m, "cloud", "local", ""),
		AccessModes:                   pick(m, []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce, corev1.ReadWriteMany}),
		PersistentVolumeReclaimPolicy: pick(m, corev1.PersistentVolumeReclaimRetain, corev1.PersistentVolumeReclaimDelete),
		PersistentVolumeSource:        corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "disks.example.org", VolumeHandle: fmt.Sprint(*made)}},
	}}
	if m.flip(3) {
		pv.Annotations = map[string]string{"pv.kubernetes.io/provisioned-by": "disks.example.org"}
	}
	if m.flip(2) {
		pv.Labels = map[string]string{"disk": pick(m, "fast", "slow")}
	}
	if m.flip(4) {
		pv.Spec.VolumeMode = ref(corev1.PersistentVolumeBlock)
	}
	if m.flip(4) {
		name := fmt.Sprintf("c%d", *made+m.rng.IntN(3))
		if !slices.ContainsFunc(m.a.list("persistentvolumes"), func(o object.Object) bool {
			r := o.(*corev1.PersistentVolume).Spec.ClaimRef
			return r != nil && r.Name == name
		}) {
			pv.Spec.ClaimRef = &corev1.ObjectReference{Kind: "PersistentVolumeClaim", Namespace: "default", Name: name}
		}
	}
	m.say("volume %s: %d GiB, %q, %v, %s, kept for %v, %v, block %v", pv.Name, size, pv.Spec.StorageClassName, pv.Spec.AccessModes, pv.Spec.PersistentVolumeReclaimPolicy, pv.Spec.ClaimRef, pv.Labels, pv.Spec.VolumeMode != nil)
	m.make(pv)
	return true
}

func (m *match) newClaim(made *int) bool {
	class := pick(m, "cloud", "local", "", "none")
	for _, o := range m.a.list("persistentvolumeclaims") {
		if c := o.(*corev1.PersistentVolumeClaim); c.Status.Phase != corev1.ClaimBound && *c.Spec.StorageClassName == class {
			return false
		}
	}
	*made++
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("c%d", *made)}, Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &class,
		AccessModes: []corev1.PersistentVolumeAccessMode{pick(m, corev1.ReadWriteOnce, corev1.ReadWriteOnce, corev1.ReadWriteMany)},
		Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: *kresource.NewQuantity(int64(1+m.rng.IntN(30))<<30, kresource.BinarySI)}}}}
	if m.flip(4) {
		c.Spec.VolumeName = m.some("persistentvolumes", func(object.Object) bool { return true })
	}
	if m.flip(4) {
		c.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"disk": pick(m, "fast", "slow")}}
	}
	if m.flip(4) {
		c.Spec.VolumeMode = ref(corev1.PersistentVolumeBlock)
	}
	m.say("claim %s: %s of %q, %v, names %q, selects %v, block %v", c.Name, c.Spec.Resources.Requests.Storage(), class, c.Spec.AccessModes, c.Spec.VolumeName, c.Spec.Selector, c.Spec.VolumeMode != nil)
	m.make(c)
	return true
}
