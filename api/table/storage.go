package table

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"reconcile/object"
)

const notSet = "<unset>"

func flag(name, description string) Column {
	return Column{Name: name, Type: "boolean", Description: description}
}

// storagePrinters print volumes and what they come from.
var storagePrinters = map[string]Printer{
	"csidrivers": {
		Columns: []Column{
			nameColumn, flag("AttachRequired", "Whether volumes are attached to nodes."), flag("PodInfoOnMount", "Whether the driver is told of the pod."),
			flag("StorageCapacity", "Whether capacities are published."), text("TokenRequests", "Audiences of the tokens that the driver is given."),
			flag("RequiresRepublish", "Whether volumes are published again from time to time."), text("Modes", "Lifecycles of volumes that the driver knows."), ageColumn,
		},
		Row: func(o object.Object, now time.Time) []any {
			d, tokens := o.(*storagev1.CSIDriver), notSet
			if d.Spec.TokenRequests != nil {
				var names []string
				for _, t := range d.Spec.TokenRequests {
					names = append(names, t.Audience)
				}
				tokens = strings.Join(names, ",")
			}
			var modes []string
			for _, m := range d.Spec.VolumeLifecycleModes {
				modes = append(modes, string(m))
			}
			return []any{d.Name, given(d.Spec.AttachRequired, true), given(d.Spec.PodInfoOnMount, false), given(d.Spec.StorageCapacity, false), tokens,
				given(d.Spec.RequiresRepublish, false), orNone(strings.Join(modes, ",")), ageOf(d, now)}
		},
	},
	"csinodes": {
		Columns: []Column{nameColumn, count("Drivers", "Drivers on the node."), ageColumn},
		Row: func(o object.Object, now time.Time) []any {
			return []any{o.GetName(), int64(len(o.(*storagev1.CSINode).Spec.Drivers)), ageOf(o, now)}
		},
	},
	"csistoragecapacities": created,
	"persistentvolumes": {
		Columns: []Column{
			nameColumn, text("Capacity", "Size."), text("Access Modes", "How it may be mounted."), text("Reclaim Policy", "What becomes of it after its claim."),
			text("Status", "Phase."), text("Claim", "Claim that has it."), text("StorageClass", "Class it is of."), text("VolumeAttributesClass", "Class of its attributes."),
			text("Reason", "Why it is in this phase."), ageColumn, wide(text("VolumeMode", "Block device or file system.")),
		},
		Row: func(o object.Object, now time.Time) []any {
			v := o.(*corev1.PersistentVolume)
			claim, class := "", v.Spec.StorageClassName
			if ref := v.Spec.ClaimRef; ref != nil {
				claim = ref.Namespace + "/" + ref.Name
			}
			if c, ok := v.Annotations[corev1.BetaStorageClassAnnotation]; ok {
				class = c
			}
			size := v.Spec.Capacity[corev1.ResourceStorage]
			return []any{v.Name, size.String(), modesText(v.Spec.AccessModes), string(v.Spec.PersistentVolumeReclaimPolicy), phaseText(v, string(v.Status.Phase)), claim, class,
				textOf(v.Spec.VolumeAttributesClassName), v.Status.Reason, ageOf(v, now), textOf(v.Spec.VolumeMode)}
		},
	},
	"persistentvolumeclaims": {
		Columns: []Column{
			nameColumn, text("Status", "Phase."), text("Volume", "Volume that it has."), text("Capacity", "Size of the volume."), text("Access Modes", "How it may be mounted."),
			text("StorageClass", "Class that is asked for."), text("VolumeAttributesClass", "Class of its attributes."), ageColumn, wide(text("VolumeMode", "Block device or file system.")),
		},
		Row: func(o object.Object, now time.Time) []any {
			c := o.(*corev1.PersistentVolumeClaim)
			size, modes, class := "", "", ""
			if c.Spec.VolumeName != "" {
				q := c.Status.Capacity[corev1.ResourceStorage]
				size, modes = q.String(), modesText(c.Status.AccessModes)
			}
			if c.Spec.StorageClassName != nil {
				class = *c.Spec.StorageClassName
			}
			if name, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
				class = name
			}
			return []any{c.Name, phaseText(c, string(c.Status.Phase)), c.Spec.VolumeName, size, modes, class, textOf(c.Spec.VolumeAttributesClassName), ageOf(c, now), textOf(c.Spec.VolumeMode)}
		},
	},
	"storageclasses": {
		Columns: []Column{
			nameColumn, text("Provisioner", "Who makes the volumes."), text("ReclaimPolicy", "What becomes of volumes after their claims."),
			text("VolumeBindingMode", "When volumes are chosen."), text("AllowVolumeExpansion", "Whether volumes may grow."), ageColumn,
		},
		Row: func(o object.Object, now time.Time) []any {
			c := o.(*storagev1.StorageClass)
			name, reclaim, binding := c.Name, string(corev1.PersistentVolumeReclaimDelete), string(storagev1.VolumeBindingImmediate)
			if c.Annotations["storageclass.kubernetes.io/is-default-class"] == "true" || c.Annotations["storageclass.beta.kubernetes.io/is-default-class"] == "true" {
				name += " (default)"
			}
			if c.ReclaimPolicy != nil {
				reclaim = string(*c.ReclaimPolicy)
			}
			if c.VolumeBindingMode != nil {
				binding = string(*c.VolumeBindingMode)
			}
			return []any{name, c.Provisioner, reclaim, binding, given(c.AllowVolumeExpansion, false), ageOf(c, now)}
		},
	},
	"volumeattachments": {
		Columns: []Column{nameColumn, {Name: "Attacher", Type: "string", Format: "name", Description: "Driver that attaches."}, text("PV", "Volume."), text("Node", "Node."), flag("Attached", "Whether it is attached."), ageColumn},
		Row: func(o object.Object, now time.Time) []any {
			a, volume := o.(*storagev1.VolumeAttachment), ""
			if n := a.Spec.Source.PersistentVolumeName; n != nil {
				volume = *n
			}
			return []any{a.Name, a.Spec.Attacher, volume, a.Spec.NodeName, a.Status.Attached, ageOf(a, now)}
		},
	},
	"volumeattributesclasses": {
		Columns: []Column{nameColumn, text("DriverName", "Driver that knows the attributes."), ageColumn},
		Row: func(o object.Object, now time.Time) []any {
			return []any{o.GetName(), o.(*storagev1.VolumeAttributesClass).DriverName, ageOf(o, now)}
		},
	},
}

func given(b *bool, otherwise bool) bool {
	if b == nil {
		return otherwise
	}
	return *b
}

func textOf[T ~string](s *T) string {
	if s == nil {
		return notSet
	}
	return string(*s)
}

func phaseText(o object.Object, phase string) string {
	if o.GetDeletionTimestamp() != nil {
		return "Terminating"
	}
	return phase
}

// modesText abbreviates access modes, each once, in a fixed order.
func modesText(modes []corev1.PersistentVolumeAccessMode) string {
	var out []string
	for _, m := range []struct {
		mode  corev1.PersistentVolumeAccessMode
		short string
	}{{corev1.ReadWriteOnce, "RWO"}, {corev1.ReadOnlyMany, "ROX"}, {corev1.ReadWriteMany, "RWX"}, {corev1.ReadWriteOncePod, "RWOP"}} {
		if slices.Contains(modes, m.mode) {
			out = append(out, m.short)
		}
	}
	return strings.Join(out, ",")
}
