package admission

import (
	"maps"
	"reflect"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/apps"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/autoscaling"
	autoscalingvalidation "k8s.io/kubernetes/pkg/apis/autoscaling/validation"
	"k8s.io/kubernetes/pkg/apis/batch"
	batchvalidation "k8s.io/kubernetes/pkg/apis/batch/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/policy"
	policyvalidation "k8s.io/kubernetes/pkg/apis/policy/validation"

	"reconcile/object"
)

// workloadRules are the rules of what makes pods, scales them and guards them, by resource.
var workloadRules = map[string]rules{
	"controllerrevisions": checks(appsvalidation.ValidateControllerRevisionCreate, appsvalidation.ValidateControllerRevisionUpdate, nil),
	"daemonsets":          daemonSetRules(),
	"deployments":         deploymentRules(),
	"replicasets": warns(checks(func(o *apps.ReplicaSet) field.ErrorList {
		return appsvalidation.ValidateReplicaSet(o, pod.GetValidationOptionsFromPodTemplate(&o.Spec.Template, nil))
	}, func(o, old *apps.ReplicaSet) field.ErrorList {
		opts := pod.GetValidationOptionsFromPodTemplate(&o.Spec.Template, &old.Spec.Template)
		opts.AllowInvalidLabelValueInSelector = opts.AllowInvalidLabelValueInSelector || metavalidation.LabelSelectorHasInvalidLabelValue(old.Spec.Selector)
		return appsvalidation.ValidateReplicaSetUpdate(o, old, opts)
	}, appsvalidation.ValidateReplicaSetStatusUpdate).counted(), allWarnings(hostNamed, warnOfSpecTemplate(func(o *apps.ReplicaSet) *core.PodTemplateSpec { return &o.Spec.Template }))),
	"statefulsets": warns(checks(func(o *apps.StatefulSet) field.ErrorList {
		return appsvalidation.ValidateStatefulSet(o, pod.GetValidationOptionsFromPodTemplate(&o.Spec.Template, nil))
	}, func(o, old *apps.StatefulSet) field.ErrorList {
		return appsvalidation.ValidateStatefulSetUpdate(o, old, pod.GetValidationOptionsFromPodTemplate(&o.Spec.Template, &old.Spec.Template))
	}, appsvalidation.ValidateStatefulSetStatusUpdate).counted(), allWarnings(warnOfSpecTemplate(func(o *apps.StatefulSet) *core.PodTemplateSpec { return &o.Spec.Template }), warnOfStatefulSet)),
	"jobs":                     jobRules(),
	"cronjobs":                 cronJobRules(),
	"horizontalpodautoscalers": autoscalerRules(),
	"poddisruptionbudgets":     budgetRules(),
}

func deploymentRules() rules {
	r := checks(func(o *apps.Deployment) field.ErrorList {
		return appsvalidation.ValidateDeployment(o, pod.GetValidationOptionsFromPodTemplate(&o.Spec.Template, nil))
	}, func(o, old *apps.Deployment) field.ErrorList {
		opts := pod.GetValidationOptionsFromPodTemplate(&o.Spec.Template, &old.Spec.Template)
		opts.AllowInvalidLabelValueInSelector = opts.AllowInvalidLabelValueInSelector || metavalidation.LabelSelectorHasInvalidLabelValue(old.Spec.Selector)
		return appsvalidation.ValidateDeploymentUpdate(o, old, opts)
	}, appsvalidation.ValidateDeploymentStatusUpdate).counted().growing(func(o, old object.Object) bool {
		return specChanged(o, old) || !equal(o.GetAnnotations(), old.GetAnnotations())
	})
	r.keepStatus = func(o, old object.Object, _ time.Time) { o.SetLabels(old.GetLabels()) }
	r.statusKeeps = []string{"metadata.labels"}
	return warns(r, allWarnings(hostNamed, warnOfSpecTemplate(func(o *apps.Deployment) *core.PodTemplateSpec { return &o.Spec.Template })))
}

func daemonSetRules() rules {
	r := checks(func(o *apps.DaemonSet) field.ErrorList {
		return appsvalidation.ValidateDaemonSet(o, pod.GetValidationOptionsFromPodTemplate(&o.Spec.Template, nil))
	}, func(o, old *apps.DaemonSet) field.ErrorList {
		opts := pod.GetValidationOptionsFromPodTemplate(&o.Spec.Template, &old.Spec.Template)
		opts.AllowInvalidLabelValueInSelector = opts.AllowInvalidLabelValueInSelector || metavalidation.LabelSelectorHasInvalidLabelValue(old.Spec.Selector)
		return appsvalidation.ValidateDaemonSetUpdate(o, old, opts)
	}, appsvalidation.ValidateDaemonSetStatusUpdate).counted()
	r.begin = func(o object.Object, _ time.Time) {
		if n, err := strconv.ParseInt(o.GetAnnotations()[appsv1.DeprecatedTemplateGeneration], 10, 64); err != nil || n < 1 {
			setTemplateGeneration(o, 1)
		}
	}
	r.keep = func(o, old object.Object) {
		n, err := strconv.ParseInt(old.GetAnnotations()[appsv1.DeprecatedTemplateGeneration], 10, 64)
		if err != nil {
			n = 1
		}
		if !equal(o.(*appsv1.DaemonSet).Spec.Template, old.(*appsv1.DaemonSet).Spec.Template) {
			n++
		}
		setTemplateGeneration(o, n)
	}
	return warns(r, warnOfDaemonSet)
}

// setTemplateGeneration counts a daemon set's templates, which apps/v1 shows as an annotation.
func setTemplateGeneration(o object.Object, n int64) {
	notes := maps.Clone(o.GetAnnotations())
	if notes == nil {
		notes = map[string]string{}
	}
	notes[appsv1.DeprecatedTemplateGeneration] = strconv.FormatInt(n, 10)
	o.SetAnnotations(notes)
}

func jobRules() rules {
	r := checks(func(o *batch.Job) field.ErrorList { return batchvalidation.ValidateJob(o, jobOptions(o, nil)) },
		func(o, old *batch.Job) field.ErrorList {
			opts := jobOptions(o, old)
			return append(batchvalidation.ValidateJob(o, opts), batchvalidation.ValidateJobUpdate(o, old, opts)...)
		}, func(o, old *batch.Job) field.ErrorList {
			return batchvalidation.ValidateJobUpdateStatus(o, old, jobStatusOptions(o, old))
		}).counted()
	r.ends = []string{"spec.ttlSecondsAfterFinished"}
	r.begin = func(o object.Object, _ time.Time) {
		j := o.(*batchv1.Job)
		// Kubernetes' defaults make a job that has no labels share its template's, and what is added there is then in both.
		shared := len(j.Labels) > 0 && reflect.ValueOf(j.Labels).UnsafePointer() == reflect.ValueOf(j.Spec.Template.Labels).UnsafePointer()
		selectJob(j)
		if len(j.Labels) == 0 || shared {
			j.Labels = maps.Clone(j.Spec.Template.Labels) // Kubernetes' defaults, which it sets again when it reads a job
		}
	}
	return warns(r, allWarnings(hostNamed, warnOfJob))
}

// selectJob gives a job that chooses no pods by itself the labels by which it knows its own.
func selectJob(j *batchv1.Job) {
	if j.Spec.ManualSelector != nil && *j.Spec.ManualSelector {
		return
	}
	labels := maps.Clone(j.Spec.Template.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	set := func(name, value string) {
		if _, ok := labels[name]; !ok {
			labels[name] = value
		}
	}
	set("job-name", j.Name)
	set(batchv1.JobNameLabel, j.Name)
	set("controller-uid", string(j.UID))
	set(batchv1.ControllerUidLabel, string(j.UID))
	j.Spec.Template.Labels = labels
	sel := j.Spec.Selector.DeepCopy()
	if sel == nil {
		sel = &metav1.LabelSelector{}
	}
	if sel.MatchLabels == nil {
		sel.MatchLabels = map[string]string{}
	}
	if _, ok := sel.MatchLabels[batchv1.ControllerUidLabel]; !ok {
		sel.MatchLabels[batchv1.ControllerUidLabel] = string(j.UID)
	}
	j.Spec.Selector = sel
}

func jobOptions(o, old *batch.Job) batchvalidation.JobValidationOptions {
	opts := batchvalidation.JobValidationOptions{RequirePrefixedLabels: true}
	if old == nil {
		opts.PodValidationOptions = pod.GetValidationOptionsFromPodTemplate(&o.Spec.Template, nil)
		return opts
	}
	opts.PodValidationOptions = pod.GetValidationOptionsFromPodTemplate(&o.Spec.Template, &old.Spec.Template)
	opts.AllowInvalidLabelValueInSelector = opts.AllowInvalidLabelValueInSelector || metavalidation.LabelSelectorHasInvalidLabelValue(old.Spec.Selector)
	suspended := old.Spec.Suspend != nil && *old.Spec.Suspend
	mutable := suspended && old.Status.Active == 0 && (old.Status.StartTime == nil || batchvalidation.IsConditionTrue(old.Status.Conditions, batch.JobSuspended))
	opts.AllowMutableSchedulingDirectives, opts.AllowMutablePodResources = mutable, mutable
	_, name := old.Spec.Template.Labels[batch.JobNameLabel]
	_, uid := old.Spec.Template.Labels[batch.ControllerUidLabel]
	opts.RequirePrefixedLabels = name && uid
	return opts
}

// jobStatusOptions ask for a rule only where a write touches what it is about.
func jobStatusOptions(o, old *batch.Job) batchvalidation.JobStatusValidationOptions {
	indexed := o.Spec.CompletionMode != nil && *o.Spec.CompletionMode == batch.IndexedCompletion
	is := func(j *batch.Job, c batch.JobConditionType) bool {
		return batchvalidation.IsConditionTrue(j.Status.Conditions, c)
	}
	finished := batchvalidation.IsJobFinished(old) != batchvalidation.IsJobFinished(o)
	complete := batchvalidation.IsJobComplete(old) != batchvalidation.IsJobComplete(o)
	failed := batchvalidation.IsJobFailed(old) != batchvalidation.IsJobFailed(o)
	target := is(old, batch.JobFailureTarget) != is(o, batch.JobFailureTarget)
	success := is(old, batch.JobSuccessCriteriaMet) != is(o, batch.JobSuccessCriteriaMet)
	completed := old.Status.CompletedIndexes != o.Status.CompletedIndexes
	failedIndexes := !equal(old.Status.FailedIndexes, o.Status.FailedIndexes)
	active := old.Status.Active != o.Status.Active
	started := !equal(old.Status.StartTime, o.Status.StartTime)
	ended := !equal(old.Status.CompletionTime, o.Status.CompletionTime)
	uncounted := !equal(old.Status.UncountedTerminatedPods, o.Status.UncountedTerminatedPods)
	empty := o.Spec.Suspend != nil && *o.Spec.Suspend && o.Spec.Completions != nil && *o.Spec.Completions == 0
	resumes := is(old, batch.JobSuspended) && batchvalidation.IsConditionFalse(o.Status.Conditions, batch.JobSuspended)
	return batchvalidation.JobStatusValidationOptions{
		RejectDecreasingSucceededCounter:             !indexed || !equal(o.Spec.Completions, o.Spec.Parallelism),
		RejectDecreasingFailedCounter:                true,
		RejectDisablingTerminalCondition:             true,
		RejectInvalidCompletedIndexes:                completed,
		RejectInvalidFailedIndexes:                   failedIndexes,
		RejectCompletedIndexesForNonIndexedJob:       completed,
		RejectFailedIndexesForNoBackoffLimitPerIndex: failedIndexes,
		RejectFailedIndexesOverlappingCompleted:      failedIndexes || completed,
		RejectFailedJobWithoutFailureTarget:          failed || failedIndexes,
		RejectCompleteJobWithoutSuccessCriteriaMet:   complete || success,
		RejectFinishedJobWithActivePods:              finished || active,
		RejectFinishedJobWithoutStartTime:            (finished || started) && !empty,
		RejectFinishedJobWithUncountedTerminatedPods: finished || uncounted,
		RejectStartTimeUpdateForUnsuspendedJob:       started && !resumes,
		RejectCompletionTimeBeforeStartTime:          started || ended,
		RejectMutatingCompletionTime:                 true,
		RejectNotCompleteJobWithCompletionTime:       complete || ended,
		RejectCompleteJobWithoutCompletionTime:       complete || ended,
		RejectCompleteJobWithFailedCondition:         complete || failed,
		RejectCompleteJobWithFailureTargetCondition:  complete || target,
		AllowForSuccessCriteriaMetInExtendedScope:    true,
		RejectMoreReadyThanActivePods:                active || !equal(old.Status.Ready, o.Status.Ready),
		RejectFinishedJobWithTerminatingPods:         finished || !equal(old.Status.Terminating, o.Status.Terminating),
	}
}

func cronJobRules() rules {
	r := checks(func(o *batch.CronJob) field.ErrorList {
		return batchvalidation.ValidateCronJobCreate(o, pod.GetValidationOptionsFromPodTemplate(&o.Spec.JobTemplate.Spec.Template, nil))
	}, func(o, old *batch.CronJob) field.ErrorList {
		return batchvalidation.ValidateCronJobUpdate(o, old, pod.GetValidationOptionsFromPodTemplate(&o.Spec.JobTemplate.Spec.Template, &old.Spec.JobTemplate.Spec.Template))
	}, anyStatus[*batch.CronJob]).counted()
	return warns(r, allWarnings(hostNamed, warnOfCronJob))
}

func autoscalerRules() rules {
	return checks(func(o *autoscaling.HorizontalPodAutoscaler) field.ErrorList {
		return autoscalingvalidation.ValidateHorizontalPodAutoscaler(o, autoscalerOptions(o, nil))
	}, func(o, old *autoscaling.HorizontalPodAutoscaler) field.ErrorList {
		return autoscalingvalidation.ValidateHorizontalPodAutoscalerUpdate(o, old, autoscalerOptions(o, old))
	}, autoscalingvalidation.ValidateHorizontalPodAutoscalerStatusUpdate)
}

func autoscalerOptions(o, old *autoscaling.HorizontalPodAutoscaler) autoscalingvalidation.HorizontalPodAutoscalerSpecValidationOptions {
	opts := autoscalingvalidation.HorizontalPodAutoscalerSpecValidationOptions{MinReplicasLowerBound: 1}
	opts.ObjectMetricsValidationOptions.AllowEmptyAPIGroup = true
	if old != nil && old.Spec.MinReplicas != nil && *old.Spec.MinReplicas == 0 {
		opts.MinReplicasLowerBound = 0
	}
	switch ref := o.Spec.ScaleTargetRef; {
	case old != nil && old.Spec.ScaleTargetRef.APIVersion == ref.APIVersion && old.Spec.ScaleTargetRef.Kind == ref.Kind:
		opts.ScaleTargetRefValidationOptions.AllowInvalidAPIVersion = true
	case ref.Kind == "ReplicationController":
		opts.ScaleTargetRefValidationOptions.AllowEmptyAPIGroup = true
	}
	return opts
}

func budgetRules() rules {
	return checks(func(o *policy.PodDisruptionBudget) field.ErrorList {
		return policyvalidation.ValidatePodDisruptionBudget(o, policyvalidation.PodDisruptionBudgetValidationOptions{})
	}, func(o, old *policy.PodDisruptionBudget) field.ErrorList {
		return policyvalidation.ValidatePodDisruptionBudget(o, policyvalidation.PodDisruptionBudgetValidationOptions{
			AllowInvalidLabelValueInSelector: metavalidation.LabelSelectorHasInvalidLabelValue(old.Spec.Selector)})
	}, func(o, old *policy.PodDisruptionBudget) field.ErrorList {
		return policyvalidation.ValidatePodDisruptionBudgetStatusUpdate(o.Status, old.Status, field.NewPath("status"), policy.SchemeGroupVersion)
	}).counted().needsVersion()
}
