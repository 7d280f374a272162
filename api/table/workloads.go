package table

import (
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/duration"

	"reconcile/object"
)

// workloadPrinters print what makes pods and what serves it, beside deployments, replica sets and pods.
var workloadPrinters = map[string]Printer{
	"controllerrevisions": {
		Columns: []Column{nameColumn, text("Controller", "Owner of the revision."), text("Revision", "Number of the revision."), ageColumn},
		Row: func(o object.Object, now time.Time) []any {
			r, owner := o.(*appsv1.ControllerRevision), none
			if ref := metav1.GetControllerOf(r); ref != nil {
				gk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind).GroupKind()
				owner = strings.ToLower(gk.String()) + "/" + ref.Name
			}
			return []any{r.Name, owner, r.Revision, ageOf(r, now)}
		},
	},
	"cronjobs": {
		Columns: append([]Column{
			nameColumn, text("Schedule", "When the job is to run."), text("Timezone", "Time zone of the schedule."),
			{Name: "Suspend", Type: "boolean", Description: "Whether no more jobs are made."}, count("Active", "Jobs that run now."),
			text("Last Schedule", "Time since the last job was made."), ageColumn,
		}, templateColumns...),
		Row: func(o object.Object, now time.Time) []any {
			c := o.(*batchv1.CronJob)
			zone, last, suspend := none, none, "<unset>"
			if c.Spec.TimeZone != nil {
				zone = *c.Spec.TimeZone
			}
			if c.Status.LastScheduleTime != nil {
				last = age(c.Status.LastScheduleTime.Time, now)
			}
			if c.Spec.Suspend != nil {
				suspend = title(*c.Spec.Suspend)
			}
			names, images := containers(c.Spec.JobTemplate.Spec.Template.Spec)
			return []any{c.Name, c.Spec.Schedule, zone, suspend, int64(len(c.Status.Active)), last, ageOf(c, now),
				names, images, metav1.FormatLabelSelector(c.Spec.JobTemplate.Spec.Selector)}
		},
	},
	"daemonsets": {
		Columns: append([]Column{
			nameColumn, count("Desired", "Nodes that should run the pod."), count("Current", "Nodes that run a pod."), count("Ready", "Nodes whose pod is ready."),
			count("Up-to-date", "Nodes whose pod is of the newest template."), count("Available", "Nodes whose pod has been ready for long enough."),
			text("Node Selector", "Labels of the nodes that are meant."), ageColumn,
		}, templateColumns...),
		Row: func(o object.Object, now time.Time) []any {
			d := o.(*appsv1.DaemonSet)
			names, images := containers(d.Spec.Template.Spec)
			st := d.Status
			return []any{d.Name, int64(st.DesiredNumberScheduled), int64(st.CurrentNumberScheduled), int64(st.NumberReady), int64(st.UpdatedNumberScheduled),
				int64(st.NumberAvailable), labels.FormatLabels(d.Spec.Template.Spec.NodeSelector), ageOf(d, now), names, images, metav1.FormatLabelSelector(d.Spec.Selector)}
		},
	},
	"horizontalpodautoscalers": {
		Columns: []Column{
			nameColumn, text("Reference", "What is scaled."), text("Targets", "Metrics: their present values and their targets."),
			text("MinPods", "Least number of replicas."), text("MaxPods", "Greatest number of replicas."), text("Replicas", "Replicas that there are."), ageColumn,
		},
		Row: func(o object.Object, now time.Time) []any {
			h, least := o.(*autoscalingv2.HorizontalPodAutoscaler), "<unset>"
			if h.Spec.MinReplicas != nil {
				least = fmt.Sprint(*h.Spec.MinReplicas)
			}
			return []any{h.Name, h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name, metricsText(h.Spec.Metrics, h.Status.CurrentMetrics),
				least, int64(h.Spec.MaxReplicas), int64(h.Status.CurrentReplicas), ageOf(h, now)}
		},
	},
	"jobs": {
		Columns: append([]Column{
			nameColumn, text("Status", "How far the job is."), text("Completions", "Pods that ended well, of those wanted."),
			text("Duration", "How long the job has run."), ageColumn,
		}, templateColumns...),
		Row: jobRow,
	},
	"poddisruptionbudgets": {
		Columns: []Column{
			nameColumn, text("Min Available", "Pods that must stay available."), text("Max Unavailable", "Pods that may be unavailable."),
			count("Allowed Disruptions", "Pods that may be evicted now."), ageColumn,
		},
		Row: func(o object.Object, now time.Time) []any {
			p, least, most := o.(*policyv1.PodDisruptionBudget), "N/A", "N/A"
			if p.Spec.MinAvailable != nil {
				least = p.Spec.MinAvailable.String()
			}
			if p.Spec.MaxUnavailable != nil {
				most = p.Spec.MaxUnavailable.String()
			}
			return []any{p.Name, least, most, int64(p.Status.DisruptionsAllowed), ageOf(p, now)}
		},
	},
	"podtemplates": {
		Columns: []Column{nameColumn, text("Containers", "Names of the containers."), text("Images", "Images of the containers."), text("Pod Labels", "Labels of the pods.")},
		Row: func(o object.Object, _ time.Time) []any {
			p := o.(*corev1.PodTemplate)
			names, images := containers(p.Template.Spec)
			return []any{p.Name, names, images, labels.FormatLabels(p.Template.Labels)}
		},
	},
	"replicationcontrollers": {
		Columns: append([]Column{
			nameColumn, count("Desired", "Replicas that are wanted."), count("Current", "Replicas that there are."), count("Ready", "Replicas that are ready."), ageColumn,
		}, templateColumns...),
		Row: func(o object.Object, now time.Time) []any {
			r := o.(*corev1.ReplicationController)
			names, images, want := "", "", int64(0)
			if r.Spec.Template != nil {
				names, images = containers(r.Spec.Template.Spec)
			}
			if r.Spec.Replicas != nil {
				want = int64(*r.Spec.Replicas)
			}
			return []any{r.Name, want, int64(r.Status.Replicas), int64(r.Status.ReadyReplicas), ageOf(r, now), names, images, labels.FormatLabels(r.Spec.Selector)}
		},
	},
	"statefulsets": {
		Columns: append([]Column{nameColumn, text("Ready", "Replicas that are ready, of those wanted."), ageColumn}, templateColumns[:2]...),
		Row: func(o object.Object, now time.Time) []any {
			s := o.(*appsv1.StatefulSet)
			names, images := containers(s.Spec.Template.Spec)
			return []any{s.Name, fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, replicas(s.Spec.Replicas)), ageOf(s, now), names, images}
		},
	},
}

// title writes a truth value as kubectl's tables do.
func title(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

func jobRow(o object.Object, now time.Time) []any {
	j := o.(*batchv1.Job)
	done := fmt.Sprintf("%d/1", j.Status.Succeeded)
	switch {
	case j.Spec.Completions != nil:
		done = fmt.Sprintf("%d/%d", j.Status.Succeeded, *j.Spec.Completions)
	case j.Spec.Parallelism != nil && *j.Spec.Parallelism > 1:
		done += fmt.Sprintf(" of %d", *j.Spec.Parallelism)
	}
	took := ""
	switch {
	case j.Status.StartTime == nil:
	case j.Status.CompletionTime == nil:
		took = duration.HumanDuration(now.Sub(j.Status.StartTime.Time))
	default:
		took = duration.HumanDuration(j.Status.CompletionTime.Sub(j.Status.StartTime.Time))
	}
	names, images := containers(j.Spec.Template.Spec)
	return []any{j.Name, jobStatus(j), done, took, ageOf(j, now), names, images, metav1.FormatLabelSelector(j.Spec.Selector)}
}

func jobStatus(j *batchv1.Job) string {
	is := func(c batchv1.JobConditionType) bool {
		for _, have := range j.Status.Conditions {
			if have.Type == c {
				return have.Status == corev1.ConditionTrue
			}
		}
		return false
	}
	switch {
	case is(batchv1.JobComplete):
		return "Complete"
	case is(batchv1.JobFailed):
		return "Failed"
	case j.DeletionTimestamp != nil:
		return "Terminating"
	case is(batchv1.JobSuspended):
		return "Suspended"
	case is(batchv1.JobFailureTarget):
		return "FailureTarget"
	case is(batchv1.JobSuccessCriteriaMet):
		return "SuccessCriteriaMet"
	}
	return "Running"
}

// metricsText prints an autoscaler's metrics, at most two.
func metricsText(specs []autoscalingv2.MetricSpec, have []autoscalingv2.MetricStatus) string {
	if len(specs) == 0 {
		return none
	}
	var list []string
	for i, spec := range specs {
		var st autoscalingv2.MetricStatus
		if i < len(have) {
			st = have[i]
		}
		list = append(list, metricText(spec, st))
	}
	return firstOf(list, 2, ", ")
}

func metricText(spec autoscalingv2.MetricSpec, st autoscalingv2.MetricStatus) string {
	switch spec.Type {
	case autoscalingv2.ExternalMetricSourceType:
		var now *autoscalingv2.MetricValueStatus
		if st.External != nil {
			now = &st.External.Current
		}
		return valueText(spec.External.Target, now)
	case autoscalingv2.ObjectMetricSourceType:
		var now *autoscalingv2.MetricValueStatus
		if st.Object != nil {
			now = &st.Object.Current
		}
		return valueText(spec.Object.Target, now)
	case autoscalingv2.PodsMetricSourceType:
		now := unknown
		if st.Pods != nil && st.Pods.Current.AverageValue != nil {
			now = st.Pods.Current.AverageValue.String()
		}
		return now + "/" + spec.Pods.Target.AverageValue.String()
	case autoscalingv2.ResourceMetricSourceType:
		var now *autoscalingv2.MetricValueStatus
		if st.Resource != nil {
			now = &st.Resource.Current
		}
		return string(spec.Resource.Name) + ": " + resourceText(spec.Resource.Target, now)
	case autoscalingv2.ContainerResourceMetricSourceType:
		var now *autoscalingv2.MetricValueStatus
		if st.ContainerResource != nil {
			now = &st.ContainerResource.Current
		}
		return string(spec.ContainerResource.Name) + ": " + resourceText(spec.ContainerResource.Target, now)
	}
	return "<unknown type>"
}

func valueText(want autoscalingv2.MetricTarget, st *autoscalingv2.MetricValueStatus) string {
	now := unknown
	if want.AverageValue != nil {
		if st != nil && st.AverageValue != nil {
			now = st.AverageValue.String()
		}
		return now + "/" + want.AverageValue.String() + " (avg)"
	}
	if st != nil && st.Value != nil {
		now = st.Value.String()
	}
	return now + "/" + want.Value.String()
}

func resourceText(want autoscalingv2.MetricTarget, st *autoscalingv2.MetricValueStatus) string {
	now := unknown
	if want.AverageValue != nil {
		if st != nil && st.AverageValue != nil {
			now = st.AverageValue.String()
		}
		return now + "/" + want.AverageValue.String()
	}
	if st != nil && st.AverageUtilization != nil {
		now = fmt.Sprintf("%d%%", *st.AverageUtilization)
	}
	target := "<auto>"
	if want.AverageUtilization != nil {
		target = fmt.Sprintf("%d%%", *want.AverageUtilization)
	}
	return now + "/" + target
}
