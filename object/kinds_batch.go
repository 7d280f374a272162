package object

import (
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// batchKinds are the kinds of the group batch.
var batchKinds = []Kind{
	{GVK: batchv1.SchemeGroupVersion.WithKind("CronJob"), Resource: "cronjobs", Singular: "cronjob", ShortNames: []string{"cj"}, Categories: []string{"all"},
		Namespaced: true, FromGit: true, Status: true, make: of[batchv1.CronJob]},
	{GVK: batchv1.SchemeGroupVersion.WithKind("Job"), Resource: "jobs", Singular: "job", Categories: []string{"all"},
		Namespaced: true, FromGit: true, Status: true, Orphans: true,
		OrphansWarning: "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning",
		Selectable:     jobFields, make: of[batchv1.Job]},
}

func jobFields(o Object, set fields.Set) {
	set["status.successful"] = strconv.Itoa(int(o.(*batchv1.Job).Status.Succeeded))
}
