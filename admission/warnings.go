package admission

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/job"
	"k8s.io/kubernetes/pkg/api/persistentvolumeclaim"
	"k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/apps"
	"k8s.io/kubernetes/pkg/apis/batch"
	"k8s.io/kubernetes/pkg/apis/core"
)

// The warnings of the kinds that make pods, as their strategies in Kubernetes put them allWarnings: of a creation all, of an update those of a
// specification that has changed.

// internalKind is a pointer to one of Kubernetes' internal types.
type internalKind interface {
	comparable
	metav1.Object
}

// created tells whether there is no old object.
func created[T internalKind](old T) bool {
	var none T
	return old == none
}

// specified tells whether a write makes, or changes, a specification, which its generation counts.
func specified[T internalKind](o, old T) bool {
	return created(old) || o.GetGeneration() != old.GetGeneration()
}

// hostNamed warns of a new object whose name is no label, which those of its pods begin with.
func hostNamed[T internalKind](o, old T) []string {
	return labelled(o, old, "Pod names and hostnames")
}

func labelled[T internalKind](o, old T, use string) []string {
	if created(old) {
		if faults := utilvalidation.IsDNS1123Label(o.GetName()); len(faults) > 0 {
			return []string{fmt.Sprintf("metadata.name: this is used in %s, which can result in surprising behavior; a DNS label is recommended: %v", use, faults)}
		}
	}
	return nil
}

// templateOf returns a kind's template; it is called for old objects that there are only.
type templateOf[T internalKind] func(T) *core.PodTemplateSpec

// warnOfTemplate returns the warnings of the template at a path.
func warnOfTemplate[T internalKind](path *field.Path, template templateOf[T]) func(o, old T) []string {
	return func(o, old T) []string {
		if !specified(o, old) {
			return nil
		}
		var was *core.PodTemplateSpec
		if !created(old) {
			was = template(old)
		}
		if template(o) == nil {
			return nil
		}
		return pod.GetWarningsForPodTemplate(context.Background(), path, template(o), was)
	}
}

// allWarnings are the warnings of several functions.
func allWarnings[T internalKind](of ...func(o, old T) []string) func(o, old T) []string {
	return func(o, old T) []string {
		var out []string
		for _, f := range of {
			out = append(out, f(o, old)...)
		}
		return out
	}
}

func warnOfSpecTemplate[T internalKind](template templateOf[T]) func(o, old T) []string {
	return warnOfTemplate(field.NewPath("spec", "template"), template)
}

func warnOfPod(o, old *core.Pod) []string {
	if old != nil {
		return nil // they are written too often
	}
	return append(labelled(o, old, "the Pod's hostname"), pod.GetWarningsForPod(context.Background(), o, nil)...)
}

func warnOfDaemonSet(o, old *apps.DaemonSet) []string {
	if old == nil {
		return pod.GetWarningsForPodTemplate(context.Background(), field.NewPath("spec", "template"), &o.Spec.Template, nil)
	}
	if o.Spec.TemplateGeneration == old.Spec.TemplateGeneration {
		return nil
	}
	return pod.GetWarningsForPodTemplate(context.Background(), field.NewPath("spec", "template"), &o.Spec.Template, &old.Spec.Template)
}

func warnOfStatefulSet(o, old *apps.StatefulSet) []string {
	var out []string
	for i := range o.Spec.VolumeClaimTemplates {
		path := field.NewPath("spec", "volumeClaimTemplates").Index(i)
		if old != nil {
			path = path.Child("Spec")
		}
		out = append(out, persistentvolumeclaim.GetWarningsForPersistentVolumeClaimSpec(path, o.Spec.VolumeClaimTemplates[i].Spec)...)
	}
	if n := o.Spec.RevisionHistoryLimit; n != nil && *n < 0 {
		out = append(out, "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended")
	}
	return out
}

func warnOfJob(o, old *batch.Job) []string {
	if !specified(o, old) {
		return nil
	}
	var was *batch.JobSpec
	if old != nil {
		was = &old.Spec
	}
	return job.WarningsForJobSpec(context.Background(), field.NewPath("spec"), &o.Spec, was)
}

func warnOfCronJob(o, old *batch.CronJob) []string {
	var out []string
	if specified(o, old) {
		var was *batch.JobSpec
		if old != nil {
			was = &old.Spec.JobTemplate.Spec
		}
		out = job.WarningsForJobSpec(context.Background(), field.NewPath("spec", "jobTemplate", "spec"), &o.Spec.JobTemplate.Spec, was)
	}
	if old != nil && strings.Contains(o.Spec.Schedule, "TZ") {
		out = append(out, "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details")
	}
	return out
}
