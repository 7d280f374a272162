package controller_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"reconcile/admission"
	"reconcile/controller"
	"reconcile/controller/memview"
	"reconcile/object"
)

// world is a cluster in memory with a clock that the test moves and kubelets that do what the test says.
type world struct {
	t      testing.TB
	state  *memview.State
	set    *controller.Set
	now    time.Time
	wakes  map[controller.Trigger]time.Time
	left   []controller.Trigger
	ips    int
	budget int
	log    []string // changes of ReplicaSets' sizes
	last   controller.Outcome
	usage  map[object.Key]object.Usage // what pods use, nil if nothing measures
	served map[object.Key]served       // what pods tell of themselves, nil if nobody asks
	bare   bool                        // no provisioner makes volumes
}

func config() controller.Config {
	return controller.Config{ClusterID: "test", ServiceRange: netip.MustParsePrefix("10.96.0.0/16"), PodRange: netip.MustParsePrefix("10.244.0.0/16"),
		AdmitPod: admission.AdmitPod[controller.View], AdmitClaim: admission.AdmitClaim[controller.View]}
}

func newWorld(t testing.TB) *world {
	cfg := config()
	cfg.Signer, cfg.Tokens = authority(t)
	set, err := controller.NewSet(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, state: memview.New(), set: set, now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), wakes: map[controller.Trigger]time.Time{}, budget: 1 << 20}
	w.settle(set.Resync(w.state)...)
	w.log = nil
	return w
}

// withOne is a world of one node, and what came of a document.
func withOne(t testing.TB, doc string) *world {
	t.Helper()
	w := newWorld(t)
	w.node("n1", "8", "8Gi", nil)
	if err := w.apply(doc); err != nil {
		t.Fatal(err)
	}
	w.settle()
	return w
}

// settle runs Settle until nothing is due any more. New claims get volumes at once, since the scheduler waits for them.
func (w *world) settle(more ...controller.Trigger) controller.Outcome {
	w.settleOnce(more...)
	for w.bindClaims() {
		w.settleOnce()
	}
	// A run that was held back to the next entry is due at once.
	for round := 0; w.due(); round++ {
		if round > 100 {
			w.t.Fatal("something is always due")
		}
		w.settleOnce()
	}
	return w.last
}

// bindClaims gives each claim that has none a volume that any node reaches, and tells whether there was such a claim.
func (w *world) bindClaims() (bound bool) {
	if w.bare {
		return false
	}
	for o := range w.state.List("persistentvolumeclaims", "") {
		claim := o.(*corev1.PersistentVolumeClaim)
		if claim.Spec.VolumeName != "" || claim.DeletionTimestamp != nil {
			continue
		}
		claim = claim.DeepCopy()
		claim.Spec.VolumeName = "pv-" + claim.Name
		metav1.SetMetaDataAnnotation(&claim.ObjectMeta, "pv.kubernetes.io/bind-completed", "yes")
		w.state.Put(&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: claim.Spec.VolumeName}})
		w.state.Put(claim)
		bound = true
	}
	return bound
}

func (w *world) due() bool {
	for _, at := range w.wakes {
		if !at.After(w.now) {
			return true
		}
	}
	return false
}

// pass lets time pass, from wake to wake.
func (w *world) pass(d time.Duration) {
	w.settle()
	for end := w.now.Add(d); ; {
		next := end
		for _, at := range w.wakes {
			if at.Before(next) {
				next = at
			}
		}
		if !next.Before(end) {
			w.now = end
			return
		}
		w.now = next
		w.settle()
	}
}

// settleOnce runs Settle on what changed since the last time, what was left over, what is due and the triggers given.
func (w *world) settleOnce(more ...controller.Trigger) controller.Outcome {
	changes := w.state.TakeChanges()
	removed := map[object.Key]bool{}
	for _, ch := range changes {
		removed[ch.Key] = ch.New == nil
	}
	triggers := append(w.left, w.set.Triggers(w.state, changes)...)
	var due []controller.Trigger
	for t, at := range w.wakes {
		if !at.After(w.now) {
			due = append(due, t)
			delete(w.wakes, t)
		}
	}
	slices.SortFunc(due, func(a, b controller.Trigger) int {
		if c := strings.Compare(a.Controller, b.Controller); c != 0 {
			return c
		}
		return a.Key.Compare(b.Key)
	})
	triggers = append(append(triggers, due...), more...)
	o := &recorder{State: w.state, w: w, removed: removed}
	var over controller.Overlay = o
	if w.usage != nil {
		over = &measured{o}
	}
	if w.served != nil {
		over = &asked{measured{o}}
	}
	w.last = controller.Settle(w.set, over, triggers, w.now, w.budget, admission.Complete)
	for _, wk := range w.last.Wakes {
		if at, ok := w.wakes[wk.Trigger]; !ok || wk.At.Before(at) {
			w.wakes[wk.Trigger] = wk.At
		}
	}
	w.left = w.last.Leftover
	w.state.TakeChanges()
	for _, q := range append(w.last.Quarantined, w.last.Errors...) {
		w.log = append(w.log, fmt.Sprintf("! %s %s: %s", q.Trigger.Controller, q.Trigger.Key, strings.SplitN(q.Reason, "\n", 2)[0]))
	}
	return w.last
}

// recorder notes how the sizes of ReplicaSets change, in order.
type recorder struct {
	*memview.State
	w       *world
	removed map[object.Key]bool
}

// measured is a recorder that knows what pods use.
type measured struct{ *recorder }

func (m *measured) Usage(pod object.Key) (object.Usage, bool) {
	u, ok := m.w.usage[pod]
	return u, ok
}

// Removed tells what was there when the Settle began, or before the test changed it, and is not any longer.
func (r *recorder) Removed(k object.Key) bool { return r.removed[k] }

func (r *recorder) Put(o object.Object) {
	if rs, ok := o.(*appsv1.ReplicaSet); ok {
		old, had := r.Get(object.KeyOf(o))
		version := rs.Spec.Template.Spec.Containers[0].Image
		switch n := *rs.Spec.Replicas; {
		case !had:
			r.w.log = append(r.w.log, fmt.Sprintf("+%s=%d", version, n))
		case *old.(*appsv1.ReplicaSet).Spec.Replicas != n:
			r.w.log = append(r.w.log, fmt.Sprintf("%s=%d", version, n))
		}
	}
	if old, had := r.Get(object.KeyOf(o)); !had {
		r.note("+", o)
	} else if old.GetDeletionTimestamp() == nil && o.GetDeletionTimestamp() != nil {
		r.note("-", o)
	}
	r.removed[object.KeyOf(o)] = false
	r.State.Put(o)
}

// Delete notes what goes at once; what was going already is noted when that began.
func (r *recorder) Delete(k object.Key) {
	if o, ok := r.Get(k); ok && o.GetDeletionTimestamp() == nil {
		r.note("-", o)
	}
	r.removed[k] = true
	r.State.Delete(k)
}

// note logs the coming and going of what controllers other than ReplicaSet and Deployment make: pods by index, ordinal or node.
func (r *recorder) note(sign string, o object.Object) {
	ref := metav1.GetControllerOf(o)
	switch o := o.(type) {
	case *corev1.Pod:
		if ref == nil || ref.Kind == "ReplicaSet" {
			return
		}
		name := ref.Name
		switch index := o.Annotations[batchv1.JobCompletionIndexAnnotation]; {
		case index != "":
			name += "[" + index + "]"
		case ref.Kind == "StatefulSet":
			name = o.Name
		case ref.Kind == "DaemonSet":
			name += "@" + pinnedTo(o)
		}
		r.w.log = append(r.w.log, sign+name+":"+o.Spec.Containers[0].Image)
	case *batchv1.Job, *corev1.PersistentVolumeClaim:
		r.w.log = append(r.w.log, sign+object.KeyOf(o).String())
	}
}

// pinnedTo is the node that a daemon's pod is made for.
func pinnedTo(p *corev1.Pod) string {
	if a := p.Spec.Affinity; a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		for _, t := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
			for _, f := range t.MatchFields {
				return f.Values[0]
			}
		}
	}
	return "?"
}

// apply stores an object as the API server would.
func (w *world) apply(doc string) error {
	w.t.Helper()
	b, err := yaml.YAMLToJSON([]byte(doc))
	if err != nil {
		return err
	}
	o, strict, err := admission.DecodeJSON(b)
	if err != nil || len(strict) > 0 {
		return fmt.Errorf("decode: %v %w", strict, err)
	}
	k, err := object.KindOfObject(o)
	if err != nil {
		return err
	}
	if k.Namespaced && o.GetNamespace() == "" {
		o.SetNamespace("default")
	}
	admission.Default(o)
	return w.put(o)
}

func (w *world) put(o object.Object) error {
	key := object.KeyOf(o)
	old, ok := w.state.Get(key)
	if !ok {
		old = nil
		admission.PrepareCreate(o, controller.HashUID("test", key.Path(), w.now.String()), w.now)
		if err := admission.CheckNamespace(w.state, o); err != nil {
			return err
		}
	} else {
		admission.PrepareUpdate(o, old)
	}
	if err := admission.Allocate(w.state, o, old, admission.Ranges{Services: config().ServiceRange}); err != nil {
		return err
	}
	if errs := admission.Validate(o, old); len(errs) > 0 {
		return errs.ToAggregate()
	}
	if controller.Finished(o) {
		w.state.Delete(key)
		return nil
	}
	w.state.Put(o)
	return nil
}

// node adds or replaces a ready node.
func (w *world) node(name, cpu, memory string, change func(*corev1.Node)) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: controller.HashUID("node", name), CreationTimestamp: metav1.NewTime(w.now), Labels: map[string]string{corev1.LabelHostname: name}}}
	n.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Node"))
	n.Status.Allocatable = corev1.ResourceList{"cpu": kresource.MustParse(cpu), "memory": kresource.MustParse(memory), "pods": kresource.MustParse("110")}
	n.Status.Capacity = n.Status.Allocatable
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: metav1.NewTime(w.now)}}
	if change != nil {
		change(n)
	}
	w.state.Put(n)
	w.heartbeat(name)
}

func (w *world) heartbeat(node string) {
	at := metav1.NewMicroTime(w.now)
	l := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: node, Namespace: corev1.NamespaceNodeLease, UID: controller.HashUID("lease", node)}}
	l.SetGroupVersionKind(coordinationv1.SchemeGroupVersion.WithKind("Lease"))
	l.Spec.RenewTime = &at
	w.state.Put(l)
}

// lead writes the lease of a new leader.
func (w *world) lead() {
	at := metav1.NewMicroTime(w.now)
	l := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: controller.LeaderLease, Namespace: metav1.NamespaceSystem, UID: controller.HashUID("leader")}}
	l.SetGroupVersionKind(coordinationv1.SchemeGroupVersion.WithKind("Lease"))
	l.Spec.AcquireTime, l.Spec.RenewTime = &at, &at
	w.state.Put(l)
}

// kubelet makes at most n bound pods ready (oldest slots first) and ends all that are terminating, but not on the nodes in dead.
func (w *world) kubelet(n int, dead ...string) {
	var pods []*corev1.Pod
	for o := range w.state.List("pods", "") {
		if p := o.(*corev1.Pod); p.Spec.NodeName != "" && !slices.Contains(dead, p.Spec.NodeName) {
			pods = append(pods, p)
		}
	}
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int {
		return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)*1000 + slot(a) - slot(b)
	})
	for _, p := range pods {
		if p.DeletionTimestamp != nil {
			zero := int64(0)
			if len(p.Finalizers) > 0 && p.Status.Phase == corev1.PodRunning {
				p = object.Copy(p)
				p.Status.Phase = corev1.PodFailed
				p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{
					Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, FinishedAt: metav1.NewTime(w.now)}}}}
				w.state.Put(p)
			}
			if _, gone := controller.BeginDelete(p, controller.DeleteOptions{GracePeriodSeconds: &zero}, w.now); gone {
				w.state.Delete(object.KeyOf(p))
			}
			continue
		}
		if p.Status.Phase != corev1.PodPending || n == 0 {
			continue
		}
		n--
		w.ips++
		w.run(p, fmt.Sprintf("10.244.%d.%d", w.ips/250, w.ips%250+1))
	}
}

func (w *world) run(p *corev1.Pod, ip string) {
	c := object.Copy(p)
	c.Status.Phase, c.Status.PodIP, c.Status.PodIPs = corev1.PodRunning, ip, []corev1.PodIP{{IP: ip}}
	started := metav1.NewTime(w.now)
	c.Status.StartTime = &started
	for _, t := range []corev1.PodConditionType{corev1.PodReady, corev1.ContainersReady} {
		c.Status.Conditions = append(c.Status.Conditions, corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(w.now)})
	}
	w.state.Put(c)
}

func slot(p *corev1.Pod) int {
	var n int
	if _, err := fmt.Sscan(p.Annotations[object.AnnotationSlot], &n); err != nil {
		return -1
	}
	return n
}

func (w *world) delete(key object.Key, opts controller.DeleteOptions) error {
	o, ok := w.state.Get(key)
	if !ok {
		return fmt.Errorf("%s is not there", key)
	}
	switch next, gone := controller.BeginDelete(o, opts, w.now); {
	case gone:
		w.state.Delete(key)
	case next != nil:
		w.state.Put(next)
	}
	return nil
}

// converge settles and lets the kubelets work until nothing more happens; it returns the number of rounds.
func (w *world) converge() int {
	for round := 1; ; round++ {
		w.settle()
		before := w.state.Rev()
		w.kubelet(1 << 20)
		if w.state.Rev() == before && len(w.left) == 0 {
			return round
		}
		if round > 1000 {
			w.t.Fatal("the world does not come to rest")
		}
	}
}

// deployment is a manifest of a Deployment whose pods run image.
func deployment(name string, n int, image, more string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  %[4]s
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      containers:
      - {name: c, image: %[3]s, resources: {requests: {cpu: 100m, memory: 64Mi}}}
`, name, n, image, more)
}
