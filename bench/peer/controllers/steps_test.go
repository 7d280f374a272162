package controllers

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"reconcile/controller"
	"reconcile/object"
)

// side is one of the two that are compared.
type side interface {
	list(resource string) []object.Object
	make(o object.Object)
	change(o object.Object, sub string)
	delete(o object.Object, opts controller.DeleteOptions)
	settle(now time.Time)
}

// pause is how long a step takes: longer than Kubernetes' Job controller waits before it looks, and such that no back-off (10 s, doubled)
// ends near the end of a step.
const pause = 4300 * time.Millisecond

// match is one course of steps on both sides.
type match struct {
	t     *testing.T
	rng   *rand.Rand
	a, b  side // Kubernetes, and ours
	log   []string
	times bool
	last  string // what both showed after the step before
	// missed tells that Kubernetes has missed that a rollout began, see undecided.
	missed bool
	// daemons tells that nodes are to be kept alive; anywhere, that it does not matter which node a daemon's pod is on.
	daemons, anywhere bool
	// silent are nodes that are not to be; not nil where both sides look after nodes.
	silent map[string]bool
	// planted is set where ours has a mistake on purpose, to whether it was seen.
	planted *bool
	// lines are what is compared, and nothing else; nil is everything about workloads.
	lines func(side) []string
}

// courses is how many courses each test plays; JUDGE_COURSES changes it.
func courses(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("JUDGE_COURSES"))
	if err != nil {
		return 40
	}
	return n
}

// drawn is the source of a course's choices. JUDGE_SEED moves all courses: `make soak` sets it to the day, so that other courses are played each day, and
// a failure is seen again by setting it to the same.
func drawn(course int, kind uint64) *rand.Rand {
	day, err := strconv.ParseUint(os.Getenv("JUDGE_SEED"), 10, 32)
	if err != nil {
		day = 0
	}
	return rand.New(rand.NewPCG(uint64(course), kind+day<<8))
}

// player plays courses of steps.
type player func(t *testing.T, steps int, begin, step func(m *match))

// play plays courses of steps, each with a seed of its own.
func play(t *testing.T, steps int, begin, step func(m *match)) {
	for seed := range courses(t) {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &match{t: t, rng: drawn(seed, 1), a: newPeer(t), b: newOurs(t)}
				m.course(steps, begin, step)
			})
		})
	}
}

// course plays one course, or what it takes of it until a planted mistake is seen.
func (m *match) course(steps int, begin, step func(m *match)) {
	begin(m)
	if !m.daemons {
		m.b.(*ours).host("n")
	}
	m.wait(pause)
	m.compare()
	for range steps {
		if m.planted != nil && *m.planted {
			return
		}
		step(m)
		m.wait(pause)
		m.compare()
	}
}

// wait lets time pass on both sides.
func (m *match) wait(d time.Duration) {
	if m.daemons {
		for _, o := range m.b.list("nodes") {
			switch name := o.GetName(); {
			case m.silent == nil:
				m.heartbeat(name)
			case !m.silent[name]:
				m.beats(name)
			}
		}
	}
	m.a.settle(time.Now())
	m.b.settle(time.Now())
	time.Sleep(d)
	m.a.settle(time.Now())
	m.b.settle(time.Now())
}

func (m *match) compare() {
	want, got := m.both()
	if want != got {
		if len(m.a.list("statefulsets")) > 0 {
			m.look() // the race may be lost twice
		}
		// Kubernetes looks up to two seconds late at deadlines (it adds one, and its times keep fractions), and one at Jobs.
		m.wait(2500 * time.Millisecond)
		want, got = m.both()
	}
	if want != got && m.planted != nil {
		*m.planted = true
		return
	}
	if want != got {
		m.t.Fatalf("after\n  %s\nfrom\n%s\nKubernetes shows\n%s\nwe show\n%s", strings.Join(m.log, "\n  "), indent(m.last), indent(want), indent(got))
	}
	m.last = want
}

// both is what the two sides show. From when Kubernetes misses that a rollout began, until both tell the same of it again, its progress is
// left out.
func (m *match) both() (want, got string) {
	if m.lines != nil {
		return strings.Join(slices.Sorted(slices.Values(m.lines(m.a))), "\n"), strings.Join(slices.Sorted(slices.Values(m.lines(m.b))), "\n")
	}
	want, got = show(m.a, m.times, m.anywhere, true), show(m.b, m.times, m.anywhere, true)
	switch {
	case undecided(m.a):
		m.missed = true
	case want == got:
		m.missed = false
	}
	if m.missed && want != got {
		want, got = show(m.a, m.times, m.anywhere, false), show(m.b, m.times, m.anywhere, false)
	}
	return want, got
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ")
}

func (m *match) say(format string, args ...any) { m.log = append(m.log, fmt.Sprintf(format, args...)) }

func (m *match) flip(n int) bool { return m.rng.IntN(n) == 0 }

func pick[T any](m *match, list ...T) T { return list[m.rng.IntN(len(list))] }

// make makes an object on both sides.
func (m *match) make(o object.Object) {
	m.a.make(object.Copy(o))
	m.b.make(object.Copy(o))
}

// edit changes an object by name on both sides.
func (m *match) edit(resource, name string, change func(object.Object)) {
	m.edits(m.a, resource, name, change)
	m.edits(m.b, resource, name, change)
}

// edits does it on one side.
func (m *match) edits(s side, resource, name string, change func(object.Object)) {
	for _, o := range s.list(resource) {
		if o.GetName() == name {
			c := object.Copy(o)
			change(c)
			s.change(c, "")
		}
	}
}

// somePod picks the same kind of pod on both sides; false if none fits.
func (m *match) somePod(fits func(*corev1.Pod) bool) (a, b *corev1.Pod, line string, ok bool) {
	theirs, our := pods(m.a, m.anywhere), pods(m.b, m.anywhere)
	var lines []string
	for line, list := range theirs {
		if fits(list[0]) && len(our[line]) > 0 {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return nil, nil, "", false
	}
	slices.Sort(lines)
	line = pick(m, lines...)
	return theirs[line][0], our[line][0], line, true
}

// kubelet does something with one pod as a kubelet would, and tells whether there was one.
func (m *match) kubelet(what string, fits func(*corev1.Pod) bool, do func(*corev1.Pod)) bool {
	a, b, line, ok := m.somePod(fits)
	if !ok {
		return false
	}
	m.say("%s %s", what, line)
	for s, p := range map[side]*corev1.Pod{m.a: a, m.b: b} {
		c := p.DeepCopy()
		do(c)
		if c.Spec.NodeName != p.Spec.NodeName {
			bound := p.DeepCopy()
			bound.Spec.NodeName = c.Spec.NodeName
			s.change(bound, "")
			for _, o := range s.list("pods") {
				if o.GetName() == p.Name {
					bound = o.(*corev1.Pod).DeepCopy()
				}
			}
			bound.Status = c.Status
			c = bound
		}
		s.change(c, "status")
	}
	return true
}

func setReady(p *corev1.Pod, yes bool) {
	status := corev1.ConditionFalse
	if yes {
		status = corev1.ConditionTrue
	}
	p.Status.Conditions = slices.DeleteFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady })
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.Now()})
}

func ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func waiting(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodPending && p.DeletionTimestamp == nil
}
func going(p *corev1.Pod) bool { return p.DeletionTimestamp != nil && !ended(p) }
func alive(p *corev1.Pod) bool { return p.DeletionTimestamp == nil && !ended(p) }

func running(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil
}

// live does what happens to pods of themselves: the first so many of 13 numbers start one, the others up to 9 end one that terminates, and one each deletes
// one, has one end with one of the codes, and has one become unready, and ready again. It tells whether there was such a pod.
func (m *match) live(n, starts int, start func() bool, codes []int32) bool {
	switch {
	case n < starts:
		return start()
	case n < 9:
		return m.remove()
	case n == 9:
		return m.kill()
	case n == 10:
		return m.end(pick(m, codes...), running)
	case n == 11:
		return m.unready()
	}
	return m.kubelet("ready", func(p *corev1.Pod) bool { return running(p) && !ready(p) }, func(p *corev1.Pod) { setReady(p, true) })
}

func (m *match) unready() bool {
	return m.kubelet("unready", func(p *corev1.Pod) bool { return alive(p) && ready(p) }, func(p *corev1.Pod) { setReady(p, false) })
}

// place binds a pod that no scheduler has bound; its kubelet has seen it.
func place(p *corev1.Pod) {
	if p.Status.StartTime == nil {
		p.Status.StartTime = ref(metav1.Now())
	}
	if p.Spec.NodeName == "" {
		p.Spec.NodeName = "n"
	}
}

func (m *match) start() bool { return m.run(waiting) }

// run starts a pod.
func (m *match) run(fits func(*corev1.Pod) bool) bool {
	return m.kubelet("run", fits, func(p *corev1.Pod) {
		place(p)
		p.Status.Phase = corev1.PodRunning
		setReady(p, true)
	})
}

// end ends a pod with a code.
func (m *match) end(code int32, fits func(*corev1.Pod) bool) bool {
	return m.kubelet(fmt.Sprintf("end with %d", code), fits, func(p *corev1.Pod) {
		place(p)
		p.Status.Phase = corev1.PodSucceeded
		if code != 0 {
			p.Status.Phase = corev1.PodFailed
		}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: metav1.Now()}}}}
		setReady(p, false)
	})
}

// remove ends a terminating pod for good.
func (m *match) remove() bool {
	fits := func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil && len(p.Finalizers) == 0 }
	a, b, line, ok := m.somePod(fits)
	if !ok {
		return false
	}
	m.say("gone %s", line)
	zero := int64(0)
	m.a.delete(a, controller.DeleteOptions{GracePeriodSeconds: &zero})
	m.b.delete(b, controller.DeleteOptions{GracePeriodSeconds: &zero})
	return true
}

func (m *match) kill() bool {
	a, b, line, ok := m.somePod(alive)
	if !ok {
		return false
	}
	m.say("delete %s", line)
	m.a.delete(a, controller.DeleteOptions{})
	m.b.delete(b, controller.DeleteOptions{})
	return true
}

func template(labels map[string]string, image string, policy corev1.RestartPolicy) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec: corev1.PodSpec{RestartPolicy: policy, Containers: []corev1.Container{{Name: "c", Image: image}}}}
}

func ref[T any](x T) *T { return &x }

// look makes Kubernetes' StatefulSet controller look again. If a pod's claim is still there when the pod goes, it waits for another event of
// the set or its pods; and which of the two is gone first is a race.
func (m *match) look() {
	m.wait(time.Second)
	m.edit("statefulsets", "db", func(o object.Object) {
		o.SetAnnotations(map[string]string{"looked": time.Now().String()})
	})
}

// TestStatefulSet compares pods, claims, revisions and status over random courses of scaling, updates, partitions and pods that come, go
// and fail.
func TestStatefulSet(t *testing.T) { statefulSetCourses(t, play) }

func statefulSetCourses(t *testing.T, play player) {
	images := []string{"v1", "v2", "v3"}
	play(t, 40, func(m *match) {
		labels := map[string]string{"app": "db"}
		set := &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{ServiceName: "db", Replicas: ref(int32(m.rng.IntN(5))), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: template(labels, "v1", corev1.RestartPolicyAlways), PodManagementPolicy: pick(m, appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement),
			MinReadySeconds: pick(m, int32(0), 0, 5)}}
		set.Name = "db"
		if m.flip(3) {
			set.Spec.UpdateStrategy.Type = appsv1.OnDeleteStatefulSetStrategyType
		} else if m.flip(2) {
			set.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType, RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: ref(int32(m.rng.IntN(4)))}}
		}
		if m.flip(3) {
			set.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: int32(m.rng.IntN(3))}
		}
		if m.flip(2) {
			claim := corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data"}}
			set.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{claim}
			policies := []appsv1.PersistentVolumeClaimRetentionPolicyType{appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType}
			set.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenScaled: pick(m, policies...), WhenDeleted: pick(m, policies...)}
		}
		m.say("make %+v", set.Spec)
		m.make(set)
	}, func(m *match) {
		for done := false; !done; {
			switch n := m.rng.IntN(16); {
			case n < 13:
				done = m.live(n, 5, m.start, []int32{0, 1})
			case n == 13:
				size := int32(m.rng.IntN(6))
				m.say("replicas %d", size)
				m.edit("statefulsets", "db", func(o object.Object) { o.(*appsv1.StatefulSet).Spec.Replicas = &size })
				done = true
			case n == 14:
				image := pick(m, images...)
				m.say("image %s", image)
				m.edit("statefulsets", "db", func(o object.Object) { o.(*appsv1.StatefulSet).Spec.Template.Spec.Containers[0].Image = image })
				done = true
			case n == 15:
				partition := int32(m.rng.IntN(4))
				m.say("partition %d", partition)
				m.edit("statefulsets", "db", func(o object.Object) {
					if u := &o.(*appsv1.StatefulSet).Spec.UpdateStrategy; u.RollingUpdate != nil {
						u.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{Partition: &partition}
					}
				})
				done = true
			}
		}
		m.look()
	})
}

// TestDeployment compares Deployments with their ReplicaSets and pods. One revision at least is kept: where none is, a pause amid Recreate
// makes Kubernetes delete the set that it scales up, and whether that has made pods before is a race. The deadline is beyond the course: to Kubernetes a ReplicaSet that
// replaces a failed pod has one less for a moment, and that counts as progress; see TestProgressDeadline.
func TestDeployment(t *testing.T) { deploymentCourses(t, play) }

func deploymentCourses(t *testing.T, play player) {
	images := []string{"v1", "v2", "v3"}
	labels := map[string]string{"app": "web"}
	play(t, 40, func(m *match) {
		d := &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Replicas: ref(int32(m.rng.IntN(7))), Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template(labels, "v1", corev1.RestartPolicyAlways),
			MinReadySeconds: pick(m, int32(0), 0, 5), RevisionHistoryLimit: ref(int32(1 + m.rng.IntN(3)))}}
		d.Name = "web"
		if m.flip(4) {
			d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType
		} else {
			d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
				MaxSurge: amount(m), MaxUnavailable: amount(m)}}
		}
		m.say("make %+v", d.Spec)
		m.make(d)
	}, func(m *match) {
		change := func(what string, f func(*appsv1.Deployment)) bool {
			m.say("%s", what)
			m.edit("deployments", "web", func(o object.Object) { f(o.(*appsv1.Deployment)) })
			return true
		}
		for done := false; !done; {
			switch n := m.rng.IntN(20); {
			case n < 8:
				done = m.start()
			case n < 12:
				done = m.remove()
			case n == 12:
				done = m.kill()
			case n == 13:
				done = m.end(1, running)
			case n == 14:
				done = m.unready()
			case n == 15:
				size := int32(m.rng.IntN(9))
				done = change(fmt.Sprintf("replicas %d", size), func(d *appsv1.Deployment) { d.Spec.Replicas = &size })
			case n == 16 || n == 17:
				image := pick(m, images...)
				done = change("image "+image, func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = image })
			case n == 18:
				pause := m.flip(2)
				done = change(fmt.Sprintf("paused %v", pause), func(d *appsv1.Deployment) { d.Spec.Paused = pause })
			case n == 19:
				m.say("wait")
				m.wait(30 * time.Second)
				done = true
			}
		}
	})
}

func amount(m *match) *intstr.IntOrString {
	if m.flip(2) {
		return ref(intstr.FromInt32(int32(m.rng.IntN(4))))
	}
	return ref(intstr.FromString(strconv.Itoa(10*m.rng.IntN(11)) + "%"))
}

// TestJob compares Jobs of all forms, with the times of their conditions.
func TestJob(t *testing.T) {
	play(t, 30, func(m *match) {
		m.times = false
		j := &batchv1.Job{Spec: batchv1.JobSpec{Parallelism: ref(int32(m.rng.IntN(4))), Template: template(nil, "v1", pick(m, corev1.RestartPolicyNever, corev1.RestartPolicyOnFailure)), BackoffLimit: ref(int32(m.rng.IntN(4)))}}
		j.Name = "j"
		if !m.flip(3) {
			j.Spec.Completions = ref(int32(m.rng.IntN(6)))
		}
		if m.flip(2) && j.Spec.Completions != nil {
			j.Spec.CompletionMode = ref(batchv1.IndexedCompletion)
			if m.flip(2) {
				j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
				j.Spec.BackoffLimit, j.Spec.BackoffLimitPerIndex = nil, ref(int32(m.rng.IntN(3)))
				if m.flip(2) {
					j.Spec.MaxFailedIndexes = ref(int32(m.rng.IntN(2)))
				}
			}
			if m.flip(3) {
				j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: ref("0,2-3"), SucceededCount: ref(int32(1 + m.rng.IntN(2)))}}}
			}
		}
		if m.flip(3) && j.Spec.Template.Spec.RestartPolicy == corev1.RestartPolicyNever {
			rules := []batchv1.PodFailurePolicyRule{
				{Action: batchv1.PodFailurePolicyActionFailJob, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{3}}},
				{Action: batchv1.PodFailurePolicyActionIgnore, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{2}}},
			}
			if j.Spec.BackoffLimitPerIndex != nil && m.flip(2) {
				rules[0].Action = batchv1.PodFailurePolicyActionFailIndex
			}
			j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: rules}
		} else if m.flip(3) {
			j.Spec.PodReplacementPolicy = ref(batchv1.Failed)
		}
		if m.flip(3) {
			j.Spec.ActiveDeadlineSeconds = ref(int64(100 + m.rng.IntN(4000)))
		}
		j.Spec.Suspend = ref(m.flip(5))
		m.say("make %+v", j.Spec)
		m.make(j)
	}, func(m *match) {
		for tries, done := 0, false; !done; tries++ {
			switch n := m.rng.IntN(18); {
			case n < 4:
				done = m.start()
			case n < 6:
				done = m.end(0, func(p *corev1.Pod) bool { return !ended(p) })
			case n < 9:
				done = m.end(int32(1+m.rng.IntN(3)), func(p *corev1.Pod) bool { return !ended(p) })
			case n < 11:
				done = m.remove()
			case n == 11:
				done = m.kill()
			case n < 16:
				// Longer than any back-off: both are over it.
				m.say("wait")
				m.wait(11 * time.Minute)
				done = true
			case n == 16:
				stop := m.flip(2)
				m.say("suspend %v", stop)
				m.edit("jobs", "j", func(o object.Object) { o.(*batchv1.Job).Spec.Suspend = &stop })
				done = true
			case n == 17:
				size := int32(m.rng.IntN(5))
				if j := m.a.list("jobs")[0].(*batchv1.Job); j.Spec.CompletionMode != nil && *j.Spec.CompletionMode == batchv1.IndexedCompletion {
					// Which of several equal pods goes, and so which index, is left to chance by Kubernetes.
					size = max(size, *j.Spec.Parallelism)
				}
				m.say("parallelism %d", size)
				m.edit("jobs", "j", func(o object.Object) { o.(*batchv1.Job).Spec.Parallelism = &size })
				done = true
			}
		}
	})
}

// TestCronJob compares which Jobs start when, over days.
func TestCronJob(t *testing.T) {
	play(t, 20, func(m *match) {
		c := &batchv1.CronJob{Spec: batchv1.CronJobSpec{
			Schedule:                   pick(m, "*/10 * * * *", "0 * * * *", "30 6-16/4 * * 1-5", "59 23 31 * *", "0 0 31 2 *", "@every 37m", "@daily", "15,45 3 * * *"),
			ConcurrencyPolicy:          pick(m, batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent),
			SuccessfulJobsHistoryLimit: ref(int32(m.rng.IntN(3))), FailedJobsHistoryLimit: ref(int32(m.rng.IntN(2))),
			TimeZone:    ref(pick(m, "UTC", "Europe/Berlin", "America/St_Johns")),
			JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{BackoffLimit: ref(int32(0)), Template: template(nil, "v1", corev1.RestartPolicyNever)}}}}
		if m.flip(2) {
			c.Spec.StartingDeadlineSeconds = ref(int64(10 + m.rng.IntN(5000)))
		}
		if strings.HasPrefix(c.Spec.Schedule, "@every") {
			// It counts from the deadline, and so from the second in which the controller looks.
			c.Spec.StartingDeadlineSeconds = nil
		}
		c.Name = "c"
		m.say("make %+v", c.Spec)
		m.make(c)
	}, func(m *match) {
		for done := false; !done; {
			switch n := m.rng.IntN(12); {
			case n < 3:
				done = m.end(int32(m.rng.IntN(2)), func(p *corev1.Pod) bool {
					return !ended(p) && p.DeletionTimestamp == nil && metav1.GetControllerOf(p) != nil && m.hasJob(p)
				})
			case n < 6:
				d := time.Duration(m.rng.IntN(40)) * time.Minute
				m.say("wait %s", d)
				m.wait(d)
				done = true
			case n < 10:
				d := time.Duration(m.rng.IntN(12)) * time.Hour
				m.say("wait %s", d)
				m.wait(d)
				done = true
			default:
				stop := m.flip(2)
				m.say("suspend %v", stop)
				m.edit("cronjobs", "c", func(o object.Object) { o.(*batchv1.CronJob).Spec.Suspend = &stop })
				done = true
			}
		}
	})
}

// hasJob tells whether a pod's Job is still there on both sides.
func (m *match) hasJob(p *corev1.Pod) bool {
	name := metav1.GetControllerOf(p).Name
	for _, s := range []side{m.a, m.b} {
		if !slices.ContainsFunc(s.list("jobs"), func(o object.Object) bool { return o.GetName() == name }) {
			return false
		}
	}
	return true
}

// TestProgressDeadline compares when a rollout is said to be stuck: nothing fails in it, and now and then nothing happens at all.
func TestProgressDeadline(t *testing.T) {
	labels := map[string]string{"app": "web"}
	play(t, 25, func(m *match) {
		d := &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Replicas: ref(int32(1 + m.rng.IntN(4))), Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template(labels, "v1", corev1.RestartPolicyAlways),
			ProgressDeadlineSeconds: ref(int32(20 + m.rng.IntN(60)))}}
		d.Name = "web"
		m.say("make %+v", d.Spec)
		m.make(d)
	}, func(m *match) {
		for done := false; !done; {
			switch n := m.rng.IntN(10); {
			case n < 4:
				done = m.start()
			case n < 6:
				done = m.remove()
			case n == 6:
				image, pause := pick(m, "v1", "v2"), m.flip(4)
				m.say("image %s, paused %v", image, pause)
				m.edit("deployments", "web", func(o object.Object) {
					d := o.(*appsv1.Deployment)
					d.Spec.Template.Spec.Containers[0].Image, d.Spec.Paused = image, pause
				})
				done = true
			default:
				m.say("wait")
				m.wait(30 * time.Second)
				done = true
			}
		}
	})
}

// TestReplicaSet compares a ReplicaSet with pods that it did not make: it adopts and releases them by their labels.
func TestReplicaSet(t *testing.T) {
	playReplicas(t, "replicasets", func(m *match, labels map[string]string) object.Object {
		return &appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Replicas: ref(int32(m.rng.IntN(5))), Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template(labels, "v1", corev1.RestartPolicyAlways),
			MinReadySeconds: pick(m, int32(0), 0, 5)}}
	}, func(o object.Object, size int32) { o.(*appsv1.ReplicaSet).Spec.Replicas = &size })
}

// TestReplicationController compares a ReplicationController in the same way.
func TestReplicationController(t *testing.T) {
	playReplicas(t, "replicationcontrollers", func(m *match, labels map[string]string) object.Object {
		own := template(labels, "v1", corev1.RestartPolicyAlways)
		return &corev1.ReplicationController{Spec: corev1.ReplicationControllerSpec{Replicas: ref(int32(m.rng.IntN(5))), Selector: labels, Template: &own, MinReadySeconds: pick(m, int32(0), 0, 5)}}
	}, func(o object.Object, size int32) { o.(*corev1.ReplicationController).Spec.Replicas = &size })
}

// playReplicas plays courses with one object that keeps a number of pods.
func playReplicas(t *testing.T, resource string, first func(*match, map[string]string) object.Object, resize func(object.Object, int32)) {
	strays := 0
	play(t, 40, func(m *match) {
		strays = 0
		o := first(m, map[string]string{"app": "x"})
		o.SetName("x")
		m.say("make %+v", o)
		m.make(o)
	}, func(m *match) {
		for done := false; !done; {
			switch n := m.rng.IntN(14); {
			case n < 4:
				done = m.start()
			case n < 6:
				done = m.remove()
			case n == 6:
				done = m.kill()
			case n == 7:
				done = m.end(int32(m.rng.IntN(2)), alive)
			case n == 8:
				done = m.unready()
			case n == 9 || n == 10:
				size := int32(m.rng.IntN(7))
				m.say("replicas %d", size)
				m.edit(resource, "x", func(o object.Object) { resize(o, size) })
				done = true
			case n == 11:
				strays++
				p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("stray-%d", strays), Labels: map[string]string{"app": pick(m, "x", "y")}}}
				p.Spec = template(nil, "v1", corev1.RestartPolicyAlways).Spec
				m.say("a pod %s of nobody", p.Labels["app"])
				m.make(p)
				done = true
			default:
				done = m.relabel(pick(m, "x", "y"))
			}
		}
	})
}

// relabel gives a pod another label on both sides.
func (m *match) relabel(to string) bool {
	a, b, line, ok := m.somePod(func(p *corev1.Pod) bool { return p.DeletionTimestamp == nil })
	if !ok {
		return false
	}
	m.say("label %s: %s", to, line)
	for s, p := range map[side]*corev1.Pod{m.a: a, m.b: b} {
		c := p.DeepCopy()
		c.Labels = map[string]string{"app": to}
		s.change(c, "")
	}
	return true
}
