package table

import (
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

// templateColumns are the wide columns of kinds that make pods.
var templateColumns = []Column{
	wide(text("Containers", "Names of the containers.")),
	wide(text("Images", "Images of the containers.")),
	wide(text("Selector", "Labels of the pods.")),
}

var deployments = Printer{
	Columns: append([]Column{
		nameColumn,
		text("Ready", "Pods that are ready, of those wanted."),
		text("Up-to-date", "Pods of the newest template."),
		text("Available", "Pods that have been ready for long enough."),
		ageColumn,
	}, templateColumns...),
	Row: func(o object.Object, now time.Time) []any {
		d := o.(*appsv1.Deployment)
		names, images := containers(d.Spec.Template.Spec)
		return []any{
			d.Name, fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, replicas(d.Spec.Replicas)), int64(d.Status.UpdatedReplicas),
			int64(d.Status.AvailableReplicas), ageOf(d, now), names, images, selectorText(d.Spec.Selector),
		}
	},
}

func replicas(n *int32) int64 {
	if n == nil {
		return 0
	}
	return int64(*n)
}

// containers are the names and the images of a pod's containers.
func containers(spec corev1.PodSpec) (names, images string) {
	var n, i []string
	for _, c := range spec.Containers {
		n, i = append(n, c.Name), append(i, c.Image)
	}
	return strings.Join(n, ","), strings.Join(i, ",")
}
