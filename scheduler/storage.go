package scheduler

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/storage/volume"

	"reconcile/object"
)

type resourceQuantity = kresource.Quantity

// The words of the volume plugins.
var (
	refuseDisk    = &refusal{volumeRestrictions, []string{"node(s) had no available disk"}, false}
	refuseOnce    = &refusal{volumeRestrictions, []string{"node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod"}, false}
	refuseLimit   = &refusal{nodeVolumeLimits, []string{"node(s) exceed max volume count"}, false}
	refuseZone    = &refusal{volumeZone, []string{"node(s) had no available volume zone"}, true}
	refuseUnbound = &refusal{volumeBinding, []string{"pod has unbound immediate PersistentVolumeClaims"}, true}
)

const (
	reasonNode     = "node(s) didn't match PersistentVolume's node affinity"
	reasonBind     = "node(s) didn't find available persistent volumes to bind"
	reasonSpace    = "node(s) did not have enough free storage"
	reasonNoVolume = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
)

// storage is what a class asks of nodes because of its volumes.
type storage struct {
	pod     *corev1.Pod
	disks   bool                            // some volumes are of those that few may mount at once
	once    []object.Key                    // claims that one pod only may use
	claims  []*corev1.PersistentVolumeClaim // all
	bound   []*corev1.PersistentVolumeClaim
	waiting []*corev1.PersistentVolumeClaim // to be bound for the node that is chosen
	volumes map[string][]*corev1.PersistentVolume
	zones   []zoneRule
}

// zoneRule is a zone label of a volume that the pod uses: a node with zone labels must have one of the values.
type zoneRule struct {
	key    string
	values []string
}

var zoneLabels = []string{corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion, corev1.LabelTopologyZone, corev1.LabelTopologyRegion}

// bindCompleted is the mark of the binder of claims.
const bindCompleted = "pv.kubernetes.io/bind-completed"

// selectedNode names the node for which a claim is being provisioned.
const selectedNode = "volume.kubernetes.io/selected-node"

// newStorage reads the pod's volumes; nil if none matters. A refusal is one of every node.
func (s *Snapshot) newStorage(pod *corev1.Pod) (*storage, *refusal) {
	if !slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return !indifferent(v) && v.Image == nil }) {
		return nil, nil
	}
	st := &storage{pod: pod, disks: slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return disk(&v) })}
	for _, step := range []func(*storage) *refusal{s.readOnce, s.readClaims, s.readZones} {
		if r := step(st); r != nil {
			return nil, r
		}
	}
	return st, nil
}

// readOnce finds the claims that one pod only may use.
func (s *Snapshot) readOnce(st *storage) *refusal {
	for i := range st.pod.Spec.Volumes {
		v := st.pod.Spec.Volumes[i].PersistentVolumeClaim
		if v == nil {
			continue
		}
		k := claimKey(st.pod.Namespace, v.ClaimName)
		claim := s.claim(k)
		if claim == nil {
			return &refusal{volumeRestrictions, []string{fmt.Sprintf("persistentvolumeclaim %q not found", v.ClaimName)}, true}
		}
		if slices.Contains(claim.Spec.AccessModes, corev1.ReadWriteOncePod) {
			s.countClaims()
			st.once = append(st.once, k)
		}
	}
	return nil
}

// readClaims sorts the claims into those that are bound and those that wait for a node.
func (s *Snapshot) readClaims(st *storage) *refusal {
	refuse := func(format string, args ...any) *refusal {
		return &refusal{volumeBinding, []string{fmt.Sprintf(format, args...)}, true}
	}
	immediate := false
	for i := range st.pod.Spec.Volumes {
		v := &st.pod.Spec.Volumes[i]
		name := claimName(st.pod, v)
		if name == "" {
			continue
		}
		claim := s.claim(claimKey(st.pod.Namespace, name))
		switch {
		case claim == nil && v.Ephemeral != nil:
			return refuse("waiting for ephemeral volume controller to create the persistentvolumeclaim %q", name)
		case claim == nil:
			return refuse("persistentvolumeclaim %q not found", name)
		case claim.Status.Phase == corev1.ClaimLost:
			return refuse("persistentvolumeclaim %q bound to non-existent persistentvolume %q", name, claim.Spec.VolumeName)
		case claim.DeletionTimestamp != nil:
			return refuse("persistentvolumeclaim %q is being deleted", name)
		case v.Ephemeral != nil && !metav1.IsControlledBy(claim, st.pod):
			return refuse("PVC %s/%s was not created for pod %s/%s (pod is not owner)", claim.Namespace, claim.Name, st.pod.Namespace, st.pod.Name)
		}
		st.claims = append(st.claims, claim)
		switch {
		case claim.Spec.VolumeName != "" && metav1.HasAnnotation(claim.ObjectMeta, bindCompleted):
			st.bound = append(st.bound, claim)
		case claim.Spec.VolumeName == "" && s.waits(claim):
			st.waiting = append(st.waiting, claim)
		default:
			immediate = true
		}
	}
	if immediate {
		return refuseUnbound
	}
	s.readVolumes(st)
	return nil
}

// readVolumes lists the volumes that waiting claims may be bound to.
func (s *Snapshot) readVolumes(st *storage) {
	if len(st.waiting) == 0 {
		return
	}
	st.volumes = map[string][]*corev1.PersistentVolume{}
	for o := range s.src.List("persistentvolumes", "") {
		if pv, ok := o.(*corev1.PersistentVolume); ok {
			class := volume.GetPersistentVolumeClass(pv)
			st.volumes[class] = append(st.volumes[class], pv)
		}
	}
	slices.SortStableFunc(st.waiting, func(a, b *corev1.PersistentVolumeClaim) int {
		x, y := a.Spec.Resources.Requests[corev1.ResourceStorage], b.Spec.Resources.Requests[corev1.ResourceStorage]
		return x.Cmp(y)
	})
}

// readZones finds the zones of the volumes that are bound (VolumeZone).
func (s *Snapshot) readZones(st *storage) *refusal {
	refuse := func(format string, args ...any) *refusal {
		return &refusal{volumeZone, []string{fmt.Sprintf(format, args...)}, true}
	}
	for i := range st.pod.Spec.Volumes {
		v := st.pod.Spec.Volumes[i].PersistentVolumeClaim
		if v == nil {
			continue
		}
		claim := s.claim(claimKey(st.pod.Namespace, v.ClaimName))
		if claim.Spec.VolumeName == "" {
			name := volume.GetPersistentVolumeClaimClass(claim)
			class := s.storageClass(name)
			switch {
			case name == "":
				return refuse("PersistentVolumeClaim had no pv name and storageClass name")
			case class == nil:
				return refuse("storageclass.storage.k8s.io %q not found", name)
			case class.VolumeBindingMode == nil:
				return refuse("VolumeBindingMode not set for StorageClass %q", name)
			case *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer:
				continue
			}
			return refuse("PersistentVolume had no name")
		}
		pv := s.volume(claim.Spec.VolumeName)
		if pv == nil {
			return refuse("persistentvolume %q not found", claim.Spec.VolumeName)
		}
		for _, key := range zoneLabels {
			if value, ok := pv.Labels[key]; ok {
				if values := zoneSet(value); values != nil {
					st.zones = append(st.zones, zoneRule{key, values})
				}
			}
		}
	}
	return nil
}

// zoneSet are the zones of a label's value, which are joined by two underlines; nil if one is empty.
func zoneSet(value string) []string {
	out := strings.Split(value, "__")
	for i := range out {
		if out[i] = strings.TrimSpace(out[i]); out[i] == "" {
			return nil
		}
	}
	return out
}

// refuse applies the rules about volumes to a node, in kube-scheduler's order.
func (st *storage) refuse(s *Snapshot, i int32, h *shift) *refusal {
	if r := st.diskRefusal(s.nodes[i]); r != nil {
		return r
	}
	used := s.inUse(st.once)
	if h != nil {
		used += h.claims
	}
	if used > 0 {
		return refuseOnce
	}
	return st.refuseHere(s, i)
}

// uses counts how often a pod uses the claims that one pod only may use.
func (st *storage) uses(pod *corev1.Pod) (n int64) {
	for i := range pod.Spec.Volumes {
		if v := pod.Spec.Volumes[i].PersistentVolumeClaim; v != nil && slices.Contains(st.once, claimKey(pod.Namespace, v.ClaimName)) {
			n++
		}
	}
	return n
}

// diskRefusal tells whether a disk is in use on the node.
func (st *storage) diskRefusal(n *nodeState) *refusal {
	if st.disks {
		for _, p := range n.pods {
			if diskConflict(&st.pod.Spec, &p.pod.Spec) {
				return refuseDisk
			}
		}
	}
	return nil
}

// refuseHere applies the rules that do not depend on other nodes or on disks.
func (st *storage) refuseHere(s *Snapshot, i int32) *refusal {
	n := s.nodes[i]
	if r := s.overLimit(st, n); r != nil {
		return r
	}
	if r := s.unbindable(st, n.node); r != nil {
		return r
	}
	return st.outOfZone(n.node)
}

func (st *storage) outOfZone(node *corev1.Node) *refusal {
	if !slices.ContainsFunc(zoneLabels, func(key string) bool { _, ok := node.Labels[key]; return ok }) {
		return nil // a cluster of one zone need not name it
	}
	for _, z := range st.zones {
		v, ok := node.Labels[z.key]
		if !ok {
			v, ok = node.Labels[stableLabel(z.key)]
		}
		if !ok || !slices.Contains(z.values, v) {
			return refuseZone
		}
	}
	return nil
}

// stableLabel is what a zone label of Kubernetes' beta times is called today.
func stableLabel(key string) string {
	switch key {
	case corev1.LabelFailureDomainBetaZone:
		return corev1.LabelTopologyZone
	case corev1.LabelFailureDomainBetaRegion:
		return corev1.LabelTopologyRegion
	}
	return key
}

// unbindable tells why the pod's claims cannot be used on a node (VolumeBinding).
func (s *Snapshot) unbindable(st *storage, node *corev1.Node) *refusal {
	var reasons []string
	for _, claim := range st.bound {
		pv := s.volume(claim.Spec.VolumeName)
		if pv == nil {
			reasons = append(reasons, reasonNoVolume)
			break
		}
		if volume.CheckNodeAffinity(pv, node.Labels) != nil {
			reasons = append(reasons, reasonNode)
			break
		}
	}
	if r := s.unprovidable(st, node); r != "" {
		reasons = append(reasons, r)
		slices.SortFunc(reasons, func(a, b string) int { return reasonOrder(a) - reasonOrder(b) })
	}
	if len(reasons) == 0 {
		return nil
	}
	return &refusal{volumeBinding, reasons, true}
}

func reasonOrder(r string) int {
	return slices.Index([]string{reasonNode, reasonBind, reasonSpace, reasonNoVolume}, r)
}

// unprovidable tells why the claims that wait for a node would find no volume there; empty if they would.
func (s *Snapshot) unprovidable(st *storage, node *corev1.Node) string {
	var provision, match []*corev1.PersistentVolumeClaim
	for _, claim := range st.waiting {
		at, chosen := claim.Annotations[selectedNode]
		switch {
		case !chosen:
			match = append(match, claim)
		case at != node.Name:
			return reasonBind
		default:
			provision = append(provision, claim)
		}
	}
	taken := map[string]*corev1.PersistentVolume{}
	for _, claim := range match {
		pv, err := volume.FindMatchingVolume(claim, st.volumes[volume.GetPersistentVolumeClaimClass(claim)], node, taken, true, true)
		if err != nil || pv == nil {
			provision = append(provision, claim)
			continue
		}
		taken[pv.Name] = pv
	}
	for _, claim := range provision {
		class := s.storageClass(volume.GetPersistentVolumeClaimClass(claim))
		if class == nil || class.Provisioner == "" || class.Provisioner == "kubernetes.io/no-provisioner" || !inTopology(class.AllowedTopologies, node.Labels) {
			return reasonBind
		}
		if !s.hasSpace(claim, class, node) {
			return reasonSpace
		}
	}
	return ""
}

// inTopology tells whether a node meets one of a class's allowed topologies; none allow every node.
func inTopology(terms []corev1.TopologySelectorTerm, l map[string]string) bool {
	if len(terms) == 0 {
		return true
	}
	for _, t := range terms {
		if len(t.MatchLabelExpressions) > 0 && !slices.ContainsFunc(t.MatchLabelExpressions, func(e corev1.TopologySelectorLabelRequirement) bool {
			v, ok := l[e.Key]
			return !ok || !slices.Contains(e.Values, v)
		}) {
			return true
		}
	}
	return false
}

// hasSpace tells whether a driver that tells its capacity has enough for the claim where the node reaches it.
func (s *Snapshot) hasSpace(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, node *corev1.Node) bool {
	size, asks := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	o, _ := s.src.Get(object.Key{Resource: "csidrivers", Name: class.Provisioner})
	driver, ok := o.(*storagev1.CSIDriver)
	if !asks || !ok || driver.Spec.StorageCapacity == nil || !*driver.Spec.StorageCapacity {
		return true
	}
	for o := range s.src.List("csistoragecapacities", "") {
		c, ok := o.(*storagev1.CSIStorageCapacity)
		if !ok || c.StorageClassName != class.Name || c.NodeTopology == nil {
			continue
		}
		limit := c.Capacity
		if c.MaximumVolumeSize != nil {
			limit = c.MaximumVolumeSize
		}
		if limit != nil && limit.Value() >= size.Value() && selectorOf(c.NodeTopology).Matches(labels.Set(node.Labels)) {
			return true
		}
	}
	return false
}
