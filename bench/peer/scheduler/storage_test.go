package scheduler

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var claims = 8

// drawStorage draws classes, volumes, claims and the limits of nodes.
func (w *world) drawStorage() {
	immediate, wait := storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer
	zonal := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "zonal"}, Provisioner: "csi.example.com", VolumeBindingMode: &wait}
	zonal.AllowedTopologies = []corev1.TopologySelectorTerm{{MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{{Key: corev1.LabelTopologyZone, Values: []string{"z1"}}}}}
	w.others = append(w.others, zonal,
		&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "local"}, Provisioner: "kubernetes.io/no-provisioner", VolumeBindingMode: &wait},
		&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Provisioner: "csi.example.com", VolumeBindingMode: &wait},
		&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "now"}, Provisioner: "csi.example.com", VolumeBindingMode: &immediate})
	capacity := w.one(2)
	w.others = append(w.others, &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "csi.example.com"}, Spec: storagev1.CSIDriverSpec{StorageCapacity: &capacity}})
	for i := range w.IntN(3) {
		size := resource.MustParse(w.pick("1Gi", "10Gi"))
		w.others = append(w.others, &storagev1.CSIStorageCapacity{ObjectMeta: metav1.ObjectMeta{Name: "cap" + strconv.Itoa(i), Namespace: "a"}, Capacity: &size,
			StorageClassName: w.pick("zonal", "fast"), NodeTopology: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelTopologyZone: w.pick("z1", "z2")}}})
	}
	for _, n := range w.nodes {
		if w.one(2) {
			count := int32(w.IntN(3))
			w.others = append(w.others, &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: n.Name},
				Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{Name: "csi.example.com", NodeID: n.Name, Allocatable: &storagev1.VolumeNodeResources{Count: &count}}}}})
		}
	}
	for i := range 6 {
		w.others = append(w.others, w.volume("pv"+strconv.Itoa(i)))
	}
	for i := range claims {
		w.others = append(w.others, w.claim("claim"+strconv.Itoa(i)))
	}
	if w.one(2) {
		pv := "pv1"
		w.others = append(w.others, &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: "va"},
			Spec: storagev1.VolumeAttachmentSpec{Attacher: "csi.example.com", NodeName: w.nodes[0].Name, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &pv}}})
	}
}

func (w *world) volume(name string) *corev1.PersistentVolume {
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}}
	pv.Spec.StorageClassName = w.pick("local", "local", "fast", "now")
	pv.Spec.Capacity = corev1.ResourceList{"storage": resource.MustParse(w.pick("1Gi", "5Gi"))}
	pv.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce, corev1.ReadWriteOncePod}
	pv.Status.Phase = corev1.VolumeAvailable
	if pv.Spec.StorageClassName == "local" {
		pv.Spec.Local = &corev1.LocalVolumeSource{Path: "/d"}
	} else {
		pv.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: "csi.example.com", VolumeHandle: name}
	}
	if w.one(2) {
		pv.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelTopologyZone, Operator: "In", Values: []string{w.pick("z1", "z2")}}}}}}}
	}
	if w.one(3) {
		pv.Labels = map[string]string{w.pick(corev1.LabelTopologyZone, corev1.LabelFailureDomainBetaZone): w.pick("z1", "z1__z2")}
	}
	return pv
}

func (w *world) claim(name string) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.pick(namespaces...)}}
	class := w.pick("local", "zonal", "fast", "now")
	c.Spec.StorageClassName = &class
	c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.PersistentVolumeAccessMode(w.pick("ReadWriteOnce", "ReadWriteOnce", "ReadWriteOncePod"))}
	c.Spec.Resources.Requests = corev1.ResourceList{"storage": resource.MustParse(w.pick("1Gi", "3Gi", "7Gi"))}
	c.Annotations = map[string]string{}
	switch w.IntN(8) {
	case 0, 1, 2, 3:
		c.Spec.VolumeName = "pv" + strconv.Itoa(w.IntN(7)) // one more than there are
		c.Annotations["pv.kubernetes.io/bind-completed"] = "yes"
		c.Status.Phase = corev1.ClaimBound
	case 4:
		c.Annotations["volume.kubernetes.io/selected-node"] = w.nodes[0].Name
	case 5:
		if w.one(3) {
			c.Status.Phase = corev1.ClaimLost
		}
	}
	return c
}

// volumes gives a pod volumes: claims of its namespace, mostly, and disks.
func (w *world) volumes(p *corev1.Pod) {
	for i := range 1 + w.IntN(2) {
		v := corev1.Volume{Name: "v" + strconv.Itoa(i)}
		switch w.IntN(6) {
		case 0:
			v.GCEPersistentDisk = nil
			v.ISCSI = &corev1.ISCSIVolumeSource{IQN: w.pick("x", "y"), ReadOnly: w.one(2)}
		case 1:
			v.EmptyDir = &corev1.EmptyDirVolumeSource{}
		default:
			v.PersistentVolumeClaim = &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "claim" + strconv.Itoa(w.IntN(claims+1))}
			for _, o := range w.others {
				if c, ok := o.(*corev1.PersistentVolumeClaim); ok && c.Namespace == p.Namespace && w.one(3) {
					v.PersistentVolumeClaim.ClaimName = c.Name
				}
			}
		}
		p.Spec.Volumes = append(p.Spec.Volumes, v)
	}
}
