package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/component-helpers/storage/volume"

	"reconcile/object"
)

func claimKey(namespace, name string) object.Key {
	return object.Key{Resource: "persistentvolumeclaims", Namespace: namespace, Name: name}
}

// claimName is the claim behind a volume, empty if there is none. An ephemeral volume's is named after the pod and the volume.
func claimName(pod *corev1.Pod, v *corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return pod.Name + "-" + v.Name
	}
	return ""
}

func (s *Snapshot) claim(k object.Key) *corev1.PersistentVolumeClaim {
	o, _ := s.src.Get(k)
	claim, _ := o.(*corev1.PersistentVolumeClaim)
	return claim
}

func (s *Snapshot) volume(name string) *corev1.PersistentVolume {
	o, _ := s.src.Get(object.Key{Resource: "persistentvolumes", Name: name})
	pv, _ := o.(*corev1.PersistentVolume)
	return pv
}

func (s *Snapshot) storageClass(name string) *storagev1.StorageClass {
	o, _ := s.src.Get(object.Key{Resource: "storageclasses", Name: name})
	class, _ := o.(*storagev1.StorageClass)
	return class
}

// waits tells whether a claim's volume is chosen only when its pod's node is.
func (s *Snapshot) waits(claim *corev1.PersistentVolumeClaim) bool {
	class := s.storageClass(volume.GetPersistentVolumeClaimClass(claim))
	return class != nil && class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}

// inUse counts those of the claims that a pod on a node uses.
func (s *Snapshot) inUse(claims []object.Key) (n int64) {
	for _, k := range claims {
		if s.claims[k] > 0 {
			n++
		}
	}
	return n
}

// countClaims begins to count the pods that use each claim.
func (s *Snapshot) countClaims() {
	if s.claims != nil {
		return
	}
	s.claims = map[object.Key]int64{}
	for _, n := range s.nodes {
		for _, p := range n.pods {
			s.useClaims(p.pod, 1)
		}
	}
}

// useClaims counts a pod's claims, if they are counted.
func (s *Snapshot) useClaims(pod *corev1.Pod, sign int64) {
	if s.claims == nil {
		return
	}
	for i := range pod.Spec.Volumes {
		if v := pod.Spec.Volumes[i].PersistentVolumeClaim; v != nil {
			s.claims[claimKey(pod.Namespace, v.ClaimName)] += sign
		}
	}
}

// overLimit tells whether a node's drivers could not attach the pod's volumes besides those that are there.
func (s *Snapshot) overLimit(st *storage, n *nodeState) *refusal {
	if len(st.claims) == 0 {
		return nil
	}
	o, _ := s.src.Get(object.Key{Resource: "csinodes", Name: n.node.Name})
	csi, ok := o.(*storagev1.CSINode)
	if !ok {
		return nil
	}
	limits := map[string]int64{}
	for _, d := range csi.Spec.Drivers {
		if d.Allocatable != nil && d.Allocatable.Count != nil {
			limits[d.Name] = int64(*d.Allocatable.Count)
		}
	}
	added := map[handle]bool{}
	for _, claim := range st.claims {
		if h := s.handleOf(claim); h.driver != "" && h.volume != "" {
			added[h] = true
		}
	}
	if len(added) == 0 || len(limits) == 0 {
		return nil
	}
	count := map[string]int64{}
	for h, used := range s.attached(n) {
		// Like kube-scheduler, a volume that is attached but used by no pod here is no room for the pod that wants it.
		if count[h.driver]++; used {
			delete(added, h)
		}
	}
	for h := range added {
		count[h.driver]++
	}
	for h := range added {
		if limit, ok := limits[h.driver]; ok && count[h.driver] > limit {
			return refuseLimit
		}
	}
	return nil
}

// handle is a volume as its driver knows it.
type handle struct{ driver, volume string }

// handleOf is the volume of a claim; a claim without one stands for itself.
func (s *Snapshot) handleOf(claim *corev1.PersistentVolumeClaim) handle {
	if pv := s.volume(claim.Spec.VolumeName); claim.Spec.VolumeName != "" && pv != nil {
		if pv.Spec.CSI == nil {
			return handle{}
		}
		return handle{pv.Spec.CSI.Driver, pv.Spec.CSI.VolumeHandle}
	}
	class := s.storageClass(volume.GetPersistentVolumeClaimClass(claim))
	if class == nil {
		return handle{}
	}
	return handle{class.Provisioner, "claim " + claim.Namespace + "/" + claim.Name}
}

// attached are the volumes that a node's pods use (true), or that are attached to it still.
func (s *Snapshot) attached(n *nodeState) map[handle]bool {
	out := map[handle]bool{}
	for _, p := range n.pods {
		for i := range p.pod.Spec.Volumes {
			name := claimName(p.pod, &p.pod.Spec.Volumes[i])
			if name == "" {
				continue
			}
			if claim := s.claim(claimKey(p.pod.Namespace, name)); claim != nil {
				if h := s.handleOf(claim); h.driver != "" && h.volume != "" {
					out[h] = true
				}
			}
		}
	}
	for o := range s.src.List("volumeattachments", "") {
		a, ok := o.(*storagev1.VolumeAttachment)
		if !ok || a.Spec.NodeName != n.node.Name || a.Spec.Attacher == "" || a.Spec.Source.PersistentVolumeName == nil {
			continue
		}
		if pv := s.volume(*a.Spec.Source.PersistentVolumeName); pv != nil && pv.Spec.CSI != nil {
			h := handle{a.Spec.Attacher, pv.Spec.CSI.VolumeHandle}
			if !out[h] {
				out[h] = false
			}
		}
	}
	return out
}

// disk tells whether a volume is of the kinds that few pods of a node may use at once.
func disk(v *corev1.Volume) bool {
	return v.GCEPersistentDisk != nil || v.AWSElasticBlockStore != nil || v.RBD != nil || v.ISCSI != nil
}

// diskConflict tells whether two pods may not be on one node because of a disk.
func diskConflict(a, b *corev1.PodSpec) bool {
	for i := range a.Volumes {
		for j := range b.Volumes {
			if sameDisk(&a.Volumes[i], &b.Volumes[j]) {
				return true
			}
		}
	}
	return false
}

// sameDisk tells whether two volumes are one disk that both cannot have: all but AWS' may be read by many.
func sameDisk(a, b *corev1.Volume) bool {
	switch {
	case a.GCEPersistentDisk != nil && b.GCEPersistentDisk != nil:
		x, y := a.GCEPersistentDisk, b.GCEPersistentDisk
		return x.PDName == y.PDName && (!x.ReadOnly || !y.ReadOnly)
	case a.AWSElasticBlockStore != nil && b.AWSElasticBlockStore != nil:
		return a.AWSElasticBlockStore.VolumeID == b.AWSElasticBlockStore.VolumeID
	case a.ISCSI != nil && b.ISCSI != nil:
		return a.ISCSI.IQN == b.ISCSI.IQN && (!a.ISCSI.ReadOnly || !b.ISCSI.ReadOnly)
	case a.RBD != nil && b.RBD != nil:
		x, y := a.RBD, b.RBD
		shared := slices.ContainsFunc(x.CephMonitors, func(m string) bool { return slices.Contains(y.CephMonitors, m) })
		return shared && x.RBDPool == y.RBDPool && x.RBDImage == y.RBDImage && (!x.ReadOnly || !y.ReadOnly)
	}
	return false
}
