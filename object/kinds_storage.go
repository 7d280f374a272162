package object

import (
	storagev1 "k8s.io/api/storage/v1"
)

// storageKinds are the kinds of the group storage.
var storageKinds = []Kind{
	{GVK: storagev1.SchemeGroupVersion.WithKind("CSIDriver"), Resource: "csidrivers", Singular: "csidriver",
		FromGit: true, Returned: true, make: of[storagev1.CSIDriver]},
	{GVK: storagev1.SchemeGroupVersion.WithKind("CSINode"), Resource: "csinodes", Singular: "csinode",
		Returned: true, make: of[storagev1.CSINode]},
	{GVK: storagev1.SchemeGroupVersion.WithKind("CSIStorageCapacity"), Resource: "csistoragecapacities", Singular: "csistoragecapacity",
		Namespaced: true, make: of[storagev1.CSIStorageCapacity]},
	{GVK: storagev1.SchemeGroupVersion.WithKind("StorageClass"), Resource: "storageclasses", Singular: "storageclass", ShortNames: []string{"sc"},
		FromGit: true, Returned: true, make: of[storagev1.StorageClass]},
	{GVK: storagev1.SchemeGroupVersion.WithKind("VolumeAttachment"), Resource: "volumeattachments", Singular: "volumeattachment",
		Status: true, Returned: true, make: of[storagev1.VolumeAttachment]},
	{GVK: storagev1.SchemeGroupVersion.WithKind("VolumeAttributesClass"), Resource: "volumeattributesclasses", Singular: "volumeattributesclass", ShortNames: []string{"vac"},
		FromGit: true, Dormant: true, Returned: true, make: of[storagev1.VolumeAttributesClass]},
}
