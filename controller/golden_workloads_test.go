package controller_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/datadriven"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"reconcile/admission"
	"reconcile/controller"
	"reconcile/object"
)

// workload plays the commands of transcripts that are about what other controllers than Deployment and ReplicaSet make.
func (w *world) workload(d *datadriven.TestData) error {
	switch d.Cmd {
	case "patch":
		return w.patch(d.CmdArgs[0].Key, d.Input, has(d, "status"))
	case "end":
		for _, p := range w.podsOf(d) {
			w.end(p, d)
		}
	case "restarts":
		n, err := strconv.Atoi(d.CmdArgs[1].Key)
		if err != nil {
			return err
		}
		c := object.Copy(w.podsOf(d)[0])
		c.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", RestartCount: int32(n)}}
		w.state.Put(c)
	case "kill":
		for _, p := range w.podsOf(d) {
			if err := w.delete(object.KeyOf(p), controller.DeleteOptions{}); err != nil {
				return err
			}
		}
	case "unready":
		o, ok := w.state.Get(object.Key{Resource: "pods", Namespace: "default", Name: d.CmdArgs[0].Key})
		if !ok {
			return fmt.Errorf("there is no pod %s", d.CmdArgs[0].Key)
		}
		c := object.Copy(o.(*corev1.Pod))
		for i := range c.Status.Conditions {
			if x := &c.Status.Conditions[i]; x.Type == corev1.PodReady {
				x.Status, x.LastTransitionTime = corev1.ConditionFalse, metav1.NewTime(w.now)
			}
		}
		w.state.Put(c)
	case "grant":
		return w.grant(d.CmdArgs[0].Key)
	case "bare":
		w.bare = true
	case "own":
		return w.own(d)
	case "csr":
		return w.request(d)
	case "approve", "deny":
		return w.approve(d)
	case "use":
		return w.use(d)
	case "serve":
		return w.serve(d)
	case "label", "taint":
		return w.changeNode(d)
	default:
		w.t.Fatalf("unknown command %s", d.Cmd)
	}
	return nil
}

// own makes an object the owner of another one, by its present UID: own CHILD OWNER [blocks].
func (w *world) own(d *datadriven.TestData) error {
	child, ok := w.state.Get(keyOf(d.CmdArgs[0].Key))
	if !ok {
		return fmt.Errorf("%s is not there", d.CmdArgs[0].Key)
	}
	owner, ok := w.state.Get(keyOf(d.CmdArgs[1].Key))
	if !ok {
		return fmt.Errorf("%s is not there", d.CmdArgs[1].Key)
	}
	gvk := owner.GetObjectKind().GroupVersionKind()
	ref := metav1.OwnerReference{APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind, Name: owner.GetName(), UID: owner.GetUID()}
	if has(d, "blocks") {
		yes := true
		ref.BlockOwnerDeletion = &yes
	}
	c := object.Copy(child)
	c.SetOwnerReferences(append(slices.Clone(c.GetOwnerReferences()), ref))
	w.state.Put(c)
	return nil
}

// keyOf reads RESOURCE/[NAMESPACE/]NAME.
func keyOf(path string) object.Key {
	parts := strings.Split(path, "/")
	key := object.Key{Resource: parts[0], Name: parts[len(parts)-1]}
	if len(parts) == 3 {
		key.Namespace = parts[1]
	}
	return key
}

// grant notes in a budget that the first of its pods may be evicted, as the eviction subresource does.
func (w *world) grant(budget string) error {
	o, ok := w.state.Get(object.Key{Resource: "poddisruptionbudgets", Namespace: "default", Name: budget})
	if !ok {
		return fmt.Errorf("there is no budget %s", budget)
	}
	b := object.Copy(o.(*policyv1.PodDisruptionBudget))
	for p := range w.state.List("pods", "default") {
		b.Status.DisruptionsAllowed--
		b.Status.DisruptedPods = map[string]metav1.Time{p.GetName(): metav1.NewTime(w.now)}
		break
	}
	w.state.Put(b)
	return nil
}

// use says what each container of the pods of an owner uses from now on: "use APP cpu=300m"; of those that do not run yet too. With
// n=1 only the first pods are measured.
func (w *world) use(d *datadriven.TestData) error {
	if w.usage == nil {
		w.usage = map[object.Key]object.Usage{}
	}
	used := corev1.ResourceList{}
	for _, r := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		if v := val(d, string(r), ""); v != "" {
			used[r] = kresource.MustParse(v)
		}
	}
	left, err := strconv.Atoi(val(d, "n", "1000"))
	if err != nil {
		return err
	}
	for o := range w.state.List("pods", "default") {
		delete(w.usage, object.KeyOf(o))
		if o.GetLabels()["app"] != d.CmdArgs[0].Key || left == 0 {
			continue
		}
		left--
		u := object.Usage{At: w.now, Window: 30 * time.Second, Containers: map[string]corev1.ResourceList{}}
		for _, c := range o.(*corev1.Pod).Spec.Containers {
			u.Containers[c.Name] = used
		}
		w.usage[object.KeyOf(o)] = u
	}
	return nil
}

// changeNode sets one label, or the one taint, of a node; without a value it takes it away.
func (w *world) changeNode(d *datadriven.TestData) error {
	o, ok := w.state.Get(object.Key{Resource: "nodes", Name: d.CmdArgs[0].Key})
	if !ok {
		return fmt.Errorf("there is no node %s", d.CmdArgs[0].Key)
	}
	n := object.Copy(o.(*corev1.Node))
	if d.Cmd == "taint" {
		n.Spec.Taints = nil
		if len(d.CmdArgs) > 1 {
			n.Spec.Taints = []corev1.Taint{{Key: d.CmdArgs[1].Key, Effect: corev1.TaintEffect(d.CmdArgs[1].Vals[0])}}
		}
	} else {
		delete(n.Labels, d.CmdArgs[1].Key)
		if len(d.CmdArgs[1].Vals) > 0 {
			n.Labels[d.CmdArgs[1].Key] = d.CmdArgs[1].Vals[0]
		}
	}
	w.state.Put(n)
	return nil
}

// patch merges a document into an object, as a JSON merge patch does.
// patch merges a document into an object, or into its status as its agent does.
func (w *world) patch(path, doc string, status bool) error {
	key := keyOf(path)
	o, ok := w.state.Get(key)
	if !ok {
		return fmt.Errorf("%s is not there", key)
	}
	m, err := object.ToMap(o)
	if err != nil {
		return err
	}
	var change map[string]any
	if err := yaml.Unmarshal([]byte(doc), &change); err != nil {
		return err
	}
	b, err := json.Marshal(merge(m, change))
	if err != nil {
		return err
	}
	next, strict, err := admission.DecodeJSON(b)
	if err != nil || len(strict) > 0 {
		return fmt.Errorf("decode: %v %w", strict, err)
	}
	admission.Default(next)
	if status {
		admission.PrepareStatusUpdate(next, o, w.now)
		w.state.Put(next)
		return nil
	}
	return w.put(next)
}

func merge(to, from map[string]any) map[string]any {
	out := maps.Clone(to)
	if out == nil {
		out = map[string]any{}
	}
	for k, v := range from {
		sub, isMap := v.(map[string]any)
		switch {
		case v == nil:
			delete(out, k)
		case isMap:
			had, _ := out[k].(map[string]any)
			out[k] = merge(had, sub)
		default:
			out[k] = v
		}
	}
	return out
}

// podsOf are the pods that a command means: n=1 active ones of an owner in the order of slots, of index= if that is given.
func (w *world) podsOf(d *datadriven.TestData) []*corev1.Pod {
	var pods []*corev1.Pod
	for o := range w.state.List("pods", "") {
		p := o.(*corev1.Pod)
		if ref := metav1.GetControllerOf(p); ref == nil || ref.Name != d.CmdArgs[0].Key || p.DeletionTimestamp != nil && !has(d, "going") ||
			p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		if x := val(d, "index", ""); x == "" || p.Annotations[batchv1.JobCompletionIndexAnnotation] == x {
			pods = append(pods, p)
		}
	}
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int { return slot(a) - slot(b) })
	n, err := strconv.Atoi(val(d, "n", "1"))
	if err != nil || len(pods) < n {
		w.t.Fatalf("%s: there are %d such pods, not %d (%v)", d.Pos, len(pods), n, err)
	}
	return pods[:n]
}

// end ends a pod as its kubelet would.
func (w *world) end(p *corev1.Pod, d *datadriven.TestData) {
	code, err := strconv.Atoi(val(d, "exit", "0"))
	if err != nil {
		w.t.Fatal(err)
	}
	c := object.Copy(p)
	c.Status.Phase = corev1.PodSucceeded
	if code != 0 {
		c.Status.Phase = corev1.PodFailed
	}
	at := metav1.NewTime(w.now)
	c.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{ExitCode: int32(code), FinishedAt: at}}}}
	for i := range c.Status.Conditions {
		if x := &c.Status.Conditions[i]; x.Type == corev1.PodReady || x.Type == corev1.ContainersReady {
			x.Status, x.LastTransitionTime = corev1.ConditionFalse, at
		}
	}
	if t := val(d, "condition", ""); t != "" {
		c.Status.Conditions = append(c.Status.Conditions, corev1.PodCondition{Type: corev1.PodConditionType(t), Status: corev1.ConditionTrue, LastTransitionTime: at})
	}
	w.state.Put(c)
}

// image is that of a revision's template.
func (w *world) image(revision string) string {
	o, ok := w.state.Get(object.Key{Resource: "controllerrevisions", Namespace: "default", Name: revision})
	if !ok {
		return "?"
	}
	_, after, _ := strings.Cut(string(o.(*appsv1.ControllerRevision).Data.Raw), `"image":"`)
	name, _, _ := strings.Cut(after, `"`)
	return name
}

// clock writes a time as the distance from when the transcript began.
func clock(t *metav1.Time) string {
	if t == nil {
		return "-"
	}
	return t.Sub(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)).String()
}

// showWorkload prints objects of workload kinds; false if it has no form for them.
func (w *world) showWorkload(b *strings.Builder, what string) bool {
	switch what {
	case "zones":
		for o := range w.state.List("endpointslices", "default") {
			for _, e := range o.(*discoveryv1.EndpointSlice).Endpoints {
				if e.NodeName == nil {
					continue
				}
				fmt.Fprintf(b, "%s on %s", e.Addresses[0], *e.NodeName)
				if e.Zone != nil {
					fmt.Fprintf(b, " in %s", *e.Zone)
				}
				if e.Hints != nil {
					fmt.Fprintf(b, " for zones %v, nodes %v", e.Hints.ForZones, e.Hints.ForNodes)
				}
				b.WriteByte('\n')
			}
		}
	case "requests":
		for o := range w.state.List("pods", "") {
			for _, c := range o.(*corev1.Pod).Spec.Containers {
				fmt.Fprintf(b, "%s* %s requests %s limits %s (%s)\n", o.(*corev1.Pod).GenerateName, c.Name, c.Resources.Requests.Cpu(), c.Resources.Limits.Cpu(), o.GetAnnotations()["kubernetes.io/limit-ranger"])
			}
		}
	case "storage":
		w.showStorage(b)
	case "wanted":
		w.showWanted(b)
	case "accounts":
		for o := range w.state.List("pods", "") {
			s := &o.(*corev1.Pod).Spec
			fmt.Fprintf(b, "%s* runs as %s (%s), pulls with %v\n", o.(*corev1.Pod).GenerateName, s.ServiceAccountName, s.DeprecatedServiceAccount, s.ImagePullSecrets)
		}
	case "ends":
		for o := range w.state.List("namespaces", "") {
			for _, c := range o.(*corev1.Namespace).Status.Conditions {
				fmt.Fprintf(b, "%s %s=%s %s: %s\n", o.GetName(), c.Type, c.Status, c.Reason, c.Message)
			}
		}
	case "owned":
		for o := range w.state.List("configmaps", "") {
			fmt.Fprintf(b, "%s/%s", o.GetNamespace(), o.GetName())
			for _, r := range o.GetOwnerReferences() {
				fmt.Fprintf(b, " of %s %s", r.Kind, r.Name)
			}
			if o.GetDeletionTimestamp() != nil {
				fmt.Fprintf(b, " going %v", o.GetFinalizers())
			}
			b.WriteByte('\n')
		}
	case "tokens":
		w.showTokens(b)
	case "csrs":
		w.showRequests(b)
	case "autoscalers":
		for o := range w.state.List("horizontalpodautoscalers", "") {
			showAutoscaler(b, o.(*autoscalingv2.HorizontalPodAutoscaler))
		}
	case "memory":
		for o := range w.state.List("horizontalpodautoscalers", "") {
			fmt.Fprintf(b, "%s %s\n", o.GetName(), o.GetAnnotations()["reconcile.local/autoscaler"])
		}
	case "jobs":
		for o := range w.state.List("jobs", "") {
			showJob(b, o.(*batchv1.Job))
		}
	case "cronjobs":
		for o := range w.state.List("cronjobs", "") {
			c := o.(*batchv1.CronJob)
			fmt.Fprintf(b, "%s last=%s success=%s active=", c.Name, clock(c.Status.LastScheduleTime), clock(c.Status.LastSuccessfulTime))
			var names []string
			for _, ref := range c.Status.Active {
				names = append(names, ref.Name)
			}
			fmt.Fprintf(b, "%v\n", names)
		}
	case "indexes":
		for o := range w.state.List("pods", "") {
			p := o.(*corev1.Pod)
			fmt.Fprintf(b, "%s* index=%s host=%s failures=%s ignored=%s phase=%s finalizers=%d env=%v\n", p.GenerateName, p.Labels[batchv1.JobCompletionIndexAnnotation], p.Spec.Hostname,
				p.Annotations[batchv1.JobIndexFailureCountAnnotation], p.Annotations[batchv1.JobIndexIgnoredFailureCountAnnotation], p.Status.Phase, len(p.Finalizers), len(p.Spec.Containers[0].Env))
		}
	case "statefulsets":
		for o := range w.state.List("statefulsets", "") {
			set := o.(*appsv1.StatefulSet)
			s := set.Status
			fmt.Fprintf(b, "%s gen=%d/%d replicas=%d/%d ready=%d available=%d current=%d updated=%d revisions=%s→%s\n", set.Name, s.ObservedGeneration, set.Generation, s.Replicas,
				*set.Spec.Replicas, s.ReadyReplicas, s.AvailableReplicas, s.CurrentReplicas, s.UpdatedReplicas, w.image(s.CurrentRevision), w.image(s.UpdateRevision))
		}
	case "budgets":
		for o := range w.state.List("poddisruptionbudgets", "") {
			s := o.(*policyv1.PodDisruptionBudget).Status
			fmt.Fprintf(b, "%s allowed=%d healthy=%d/%d expected=%d going=%d %s=%s\n", o.GetName(), s.DisruptionsAllowed, s.CurrentHealthy, s.DesiredHealthy, s.ExpectedPods,
				len(s.DisruptedPods), s.Conditions[0].Status, strings.TrimSpace(s.Conditions[0].Reason+" "+s.Conditions[0].Message))
		}
	case "budgetevents":
		for o := range w.state.List("events", "") {
			if e := o.(*corev1.Event); e.InvolvedObject.Kind == "PodDisruptionBudget" {
				fmt.Fprintf(b, "%s %s %s: %s\n", e.Type, e.Reason, e.InvolvedObject.Name, e.Message)
			}
		}
	case "owners":
		for o := range w.state.List("pods", "") {
			owner := "nobody"
			if ref := metav1.GetControllerOf(o); ref != nil {
				owner = ref.Name
			}
			name := o.GetName()
			if o.GetGenerateName() != "" {
				name = o.GetGenerateName() + "*"
			}
			fmt.Fprintf(b, "%s of %s\n", name, owner)
		}
	case "collisions":
		for o := range w.state.List("deployments", "") {
			fmt.Fprintf(b, "%s %d\n", o.GetName(), deref(o.(*appsv1.Deployment).Status.CollisionCount))
		}
		for o := range w.state.List("replicasets", "") {
			fmt.Fprintf(b, "%s owners=%d\n", o.GetName(), len(o.GetOwnerReferences()))
		}
	case "quotas":
		for o := range w.state.List("resourcequotas", "") {
			q := o.(*corev1.ResourceQuota)
			fmt.Fprintf(b, "%s", q.Name)
			for _, name := range slices.Sorted(maps.Keys(q.Status.Hard)) {
				used, hard := q.Status.Used[name], q.Status.Hard[name]
				fmt.Fprintf(b, " %s=%s/%s", name, used.String(), hard.String())
			}
			b.WriteByte('\n')
		}
	case "daemonsets":
		for o := range w.state.List("daemonsets", "") {
			s := o.(*appsv1.DaemonSet).Status
			fmt.Fprintf(b, "%s gen=%d/%d desired=%d current=%d misscheduled=%d ready=%d updated=%d available=%d unavailable=%d\n", o.GetName(), s.ObservedGeneration, o.GetGeneration(),
				s.DesiredNumberScheduled, s.CurrentNumberScheduled, s.NumberMisscheduled, s.NumberReady, s.UpdatedNumberScheduled, s.NumberAvailable, s.NumberUnavailable)
		}
	case "tolerations":
		for o := range w.state.List("pods", "") {
			for _, t := range o.(*corev1.Pod).Spec.Tolerations {
				fmt.Fprintf(b, "%s %s:%s", t.Operator, t.Key, t.Effect)
				if t.TolerationSeconds != nil {
					fmt.Fprintf(b, " for %ds", *t.TolerationSeconds)
				}
				b.WriteByte('\n')
			}
			return true
		}
	case "controllerrevisions":
		for o := range w.state.List("controllerrevisions", "") {
			rev := o.(*appsv1.ControllerRevision)
			fmt.Fprintf(b, "%s revision=%d image=%s owners=%d %s\n", rev.Name, rev.Revision, w.image(rev.Name), len(rev.OwnerReferences), rev.Data.Raw)
		}
	case "claims":
		for o := range w.state.List("persistentvolumeclaims", "") {
			fmt.Fprintf(b, "%s labels=%v owners=", o.GetName(), o.GetLabels())
			var names []string
			for _, ref := range o.GetOwnerReferences() {
				names = append(names, ref.Kind+"/"+ref.Name)
			}
			fmt.Fprintf(b, "%v\n", names)
		}
	case "identities":
		for o := range w.state.List("pods", "") {
			p := o.(*corev1.Pod)
			fmt.Fprintf(b, "%s %s host=%s.%s index=%s image=%s", p.Name, p.UID[:8], p.Spec.Hostname, p.Spec.Subdomain, p.Labels[appsv1.PodIndexLabel], p.Spec.Containers[0].Image)
			for _, v := range p.Spec.Volumes {
				if v.PersistentVolumeClaim != nil {
					fmt.Fprintf(b, " %s=%s", v.Name, v.PersistentVolumeClaim.ClaimName)
				}
			}
			b.WriteByte('\n')
		}
	case "replicationcontrollers":
		for o := range w.state.List("replicationcontrollers", "") {
			rc := o.(*corev1.ReplicationController)
			s := rc.Status
			fmt.Fprintf(b, "%s gen=%d/%d replicas=%d/%d ready=%d available=%d labeled=%d\n", rc.Name, s.ObservedGeneration, rc.Generation, s.Replicas, *rc.Spec.Replicas,
				s.ReadyReplicas, s.AvailableReplicas, s.FullyLabeledReplicas)
			for _, c := range s.Conditions {
				fmt.Fprintf(b, "  %s=%s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
			}
		}
	default:
		return false
	}
	return true
}

func showJob(b *strings.Builder, j *batchv1.Job) {
	s := j.Status
	fmt.Fprintf(b, "%s active=%d ready=%d terminating=%d succeeded=%d failed=%d start=%s end=%s", j.Name, s.Active, deref(s.Ready), deref(s.Terminating), s.Succeeded, s.Failed,
		clock(s.StartTime), clock(s.CompletionTime))
	if s.CompletedIndexes != "" {
		fmt.Fprintf(b, " completed=%s", s.CompletedIndexes)
	}
	if s.FailedIndexes != nil {
		fmt.Fprintf(b, " failedIndexes=%q", *s.FailedIndexes)
	}
	if t := j.Annotations["reconcile.local/backoff"]; t != "" {
		fmt.Fprintf(b, " backoff=%q", t)
	}
	if j.DeletionTimestamp != nil {
		fmt.Fprintf(b, " deleting %v", j.Finalizers)
	}
	b.WriteByte('\n')
	for _, c := range s.Conditions {
		fmt.Fprintf(b, "  %s=%s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
	}
}

func deref(n *int32) int32 {
	if n == nil {
		return -1
	}
	return *n
}

func showAutoscaler(b *strings.Builder, h *autoscalingv2.HorizontalPodAutoscaler) {
	st := h.Status
	fmt.Fprintf(b, "%s %d→%d scaled=%s", h.Name, st.CurrentReplicas, st.DesiredReplicas, clock(st.LastScaleTime))
	for _, m := range st.CurrentMetrics {
		v := autoscalingv2.MetricValueStatus{}
		switch {
		case m.Resource != nil:
			v = m.Resource.Current
		case m.ContainerResource != nil:
			v = m.ContainerResource.Current
		case m.Pods != nil:
			v = m.Pods.Current
		case m.Object != nil:
			v = m.Object.Current
		case m.External != nil:
			v = m.External.Current
		}
		if v.Value != nil {
			fmt.Fprintf(b, " %s in all", v.Value)
		}
		if v.AverageUtilization != nil {
			fmt.Fprintf(b, " %d%%", *v.AverageUtilization)
		}
		if v.AverageValue != nil {
			fmt.Fprintf(b, " %s", v.AverageValue)
		}
	}
	b.WriteByte('\n')
	for _, c := range st.Conditions {
		fmt.Fprintf(b, "  %s=%s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
	}
}

// showStorage shows volumes and claims with what they name, and the events about them.
func (w *world) showStorage(b *strings.Builder) {
	for o := range w.state.List("persistentvolumes", "") {
		pv := o.(*corev1.PersistentVolume)
		fmt.Fprintf(b, "volume %s %s", pv.Name, pv.Status.Phase)
		if ref := pv.Spec.ClaimRef; ref != nil {
			fmt.Fprintf(b, " of %s/%s uid=%v", ref.Namespace, ref.Name, ref.UID != "")
		}
		showMarks(b, o)
		if pv.Status.Message != "" {
			fmt.Fprintf(b, " (%s)", pv.Status.Message)
		}
		b.WriteByte('\n')
	}
	for o := range w.state.List("persistentvolumeclaims", "") {
		claim := o.(*corev1.PersistentVolumeClaim)
		class := "-"
		if claim.Spec.StorageClassName != nil {
			class = *claim.Spec.StorageClassName
		}
		fmt.Fprintf(b, "claim %s %s class=%s volume=%q %v %s", claim.Name, claim.Status.Phase, class, claim.Spec.VolumeName, claim.Status.AccessModes, claim.Status.Capacity.Storage())
		showMarks(b, o)
		b.WriteByte('\n')
	}
	for o := range w.state.List("events", "") {
		if e := o.(*corev1.Event); strings.HasPrefix(e.InvolvedObject.Kind, "PersistentVolume") {
			fmt.Fprintf(b, "%s %s %s ×%d: %s\n", e.Type, e.Reason, e.InvolvedObject.Name, e.Count, e.Message)
		}
	}
}

// showMarks shows the binder's annotations and the finalizers by their last parts.
func showMarks(b *strings.Builder, o object.Object) {
	for _, k := range slices.Sorted(maps.Keys(o.GetAnnotations())) {
		if _, name, ok := strings.Cut(k, "kubernetes.io/"); ok {
			fmt.Fprintf(b, " %s=%s", name, o.GetAnnotations()[k])
		}
	}
	for _, f := range o.GetFinalizers() {
		fmt.Fprintf(b, " %s", strings.TrimPrefix(f, "kubernetes.io/"))
	}
	if o.GetDeletionTimestamp() != nil {
		b.WriteString(" deleting")
	}
}
