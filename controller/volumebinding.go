package controller

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"

	"reconcile/object"
)

// claimBinding binds the claims of pods for which a node was chosen, of classes that wait for that; one scheduling step uses one. It is a
// View over the step's own, in which the claims and volumes are as the step leaves them, lest two pods get one volume.
type claimBinding struct {
	View
	now    time.Time
	writes map[object.Key]object.Object
}

func (c *claimBinding) Get(k object.Key) (object.Object, bool) {
	if o, ok := c.writes[k]; ok {
		return o, true
	}
	return c.View.Get(k)
}

// bind binds what a pod's claims still need on a node. It returns what is to be written, and whether the pod can be bound: it cannot where a
// provisioner must make a volume first (then the claims name the node), or where another pod of this step has taken the last one.
func (c *claimBinding) bind(p *corev1.Pod, node string) (puts []object.Object, ok bool) {
	var waiting []*corev1.PersistentVolumeClaim
	for i := range p.Spec.Volumes {
		name := claimOfVolume(p, &p.Spec.Volumes[i])
		if name == "" {
			continue
		}
		o, there := c.Get(object.Key{Resource: "persistentvolumeclaims", Namespace: p.Namespace, Name: name})
		if !there {
			return nil, false
		}
		claim := o.(*corev1.PersistentVolumeClaim)
		if !metav1.HasAnnotation(claim.ObjectMeta, volume.AnnBindCompleted) {
			waiting = append(waiting, claim)
			continue
		}
		if _, bound := c.writes[object.KeyOf(claim)]; bound && !c.reaches(claim, node) {
			return nil, false
		}
	}
	if len(waiting) == 0 {
		return nil, true
	}
	return c.bindAll(waiting, node)
}

// reaches tells whether a claim's volume can be used on a node.
func (c *claimBinding) reaches(claim *corev1.PersistentVolumeClaim, node string) bool {
	o, ok := c.Get(volumeKey(claim.Spec.VolumeName))
	n, there := c.Get(object.Key{Resource: "nodes", Name: node})
	return ok && there && volume.CheckNodeAffinity(o.(*corev1.PersistentVolume), n.GetLabels()) == nil
}

// bindAll finds a volume for each claim, or leaves all of them as they are.
func (c *claimBinding) bindAll(waiting []*corev1.PersistentVolumeClaim, node string) ([]object.Object, bool) {
	o, ok := c.Get(object.Key{Resource: "nodes", Name: node})
	if !ok {
		return nil, false
	}
	// As the scheduler has looked for them, and Kubernetes: the smallest first, which takes the smallest volume that will do.
	slices.SortStableFunc(waiting, func(a, b *corev1.PersistentVolumeClaim) int {
		return a.Spec.Resources.Requests.Storage().Cmp(*b.Spec.Resources.Requests.Storage())
	})
	b := &binder{v: c, now: c.now}
	taken, whole := map[string]*corev1.PersistentVolume{}, true
	for _, claim := range waiting {
		if at, chosen := claim.Annotations[volume.AnnSelectedNode]; chosen {
			// Its provisioner is at work, for this node or another: it gets what that makes.
			if at != node {
				return nil, false
			}
			whole = false
			continue
		}
		pv, err := volume.FindMatchingVolume(claim, c.candidates(claim), o.(*corev1.Node), taken, true, true)
		switch {
		case err != nil:
			return nil, false
		case pv != nil:
			taken[pv.Name] = pv
			b.bind(pv, claim)
		case !b.provisioned(claim):
			return nil, false
		default:
			whole = false
			d := object.Copy(claim)
			metav1.SetMetaDataAnnotation(&d.ObjectMeta, volume.AnnSelectedNode, node)
			b.put(d)
		}
	}
	for _, w := range b.res.Put {
		c.writes[object.KeyOf(w)] = w
	}
	return b.res.Put, whole
}

// candidates are the volumes that a claim may be bound to, as this step leaves them.
func (c *claimBinding) candidates(claim *corev1.PersistentVolumeClaim) []*corev1.PersistentVolume {
	out := candidates(c.View, claim)
	for i, pv := range out {
		if now, ok := c.writes[object.KeyOf(pv)]; ok {
			out[i] = now.(*corev1.PersistentVolume)
		}
	}
	return out
}

// provisioned tells whether a claim's class has a provisioner that may run.
func (b *binder) provisioned(claim *corev1.PersistentVolumeClaim) bool {
	class := b.class(volume.GetPersistentVolumeClaimClass(claim))
	return class != nil && class.Provisioner != "" && class.Provisioner != noProvisioner
}
