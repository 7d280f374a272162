package node

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/node/probe"
	"reconcile/node/runtime"
)

// Have is what stands of one pod: Decide and Status look at nothing else.
type Have struct {
	// Sandbox is nil when there is none, or none that lives.
	Sandbox *runtime.Sandbox
	// Set tells that sandbox, address, volumes and files are ready for containers. IP is the pod's address.
	Set bool
	IP  string
	// Containers are all of the pod, in any order, running or ended, several attempts of one name.
	Containers []runtime.Container
	// Probes are the states by container ID and kind.
	Probes map[ProbeKey]probe.State
	// Waiting says why a container, by name, could not be started last time; "" is the pod's sandbox and volumes.
	Waiting map[string]Waiting
	// Stops are the containers, by ID, that were asked to stop.
	Stops map[string]Stop
	// Busy are the actions, by Action.Key, that are under way.
	Busy map[string]bool
	// Evicted is why the pod must end before its time; empty if it need not. Reason is the reason in its status then, if it is not reasonEvicted.
	Evicted, Reason string
	// Orphan tells that the pod's object is gone. Ending tells that for this the pod's end has begun: it is gone through with, also
	// if the object comes back meanwhile, and the pod then begins anew.
	Orphan, Ending bool
	// Gone tells that nothing of the pod is left on the machine.
	Gone bool
}

// ProbeKey names one probe of one attempt.
type ProbeKey struct {
	ID   string
	Kind probe.Kind
}

// Waiting is why something cannot be started, and when to try again.
type Waiting struct {
	Reason, Message string
	Until           time.Time
	Tries           int
}

// Stop is a container's way to its end.
type Stop struct {
	At    time.Time
	Grace time.Duration
	// Killed tells that SIGKILL was sent.
	Killed bool
	// Unready tells that the container does not count as ready while it stops: its postStart hook failed.
	Unready bool
}

// Verbs of an Action.
const (
	Setup    = "setup"    // make sandbox, address, volumes
	Start    = "start"    // start an attempt of a container
	StopIt   = "stop"     // preStop, then SIGTERM
	Kill     = "kill"     // SIGKILL
	Probe    = "probe"    // ask once
	Remove   = "remove"   // forget an ended attempt
	Teardown = "teardown" // remove all of the pod from the machine
	Delete   = "delete"   // remove the pod's object
)

// Action is one thing to do for a pod.
type Action struct {
	Verb string
	// Name is the container's; ID is of the attempt, where there is one.
	Name, ID string
	Attempt  int
	// Backoff is what the next restart after this attempt waits.
	Backoff time.Duration
	Grace   time.Duration
	Kind    probe.Kind
	// Reason is told as the event's message of a stop.
	Reason string
}

// Key names an action among those under way: the same is not begun twice.
func (a Action) Key() string { return a.Verb + "/" + a.Name + "/" + a.ID + "/" + string(a.Kind) }

// busyRefresh names the bringing up to date of volumes among what is under way.
const busyRefresh = "refresh"

const (
	backoffFirst = 10 * time.Second
	backoffMax   = 5 * time.Minute
	backoffReset = 10 * time.Minute
	// labelBackoff keeps the back-off of the next restart with the attempt.
	labelBackoff = "backoff"
)

// decider gathers one decision.
type decider struct {
	pod  *corev1.Pod
	have Have
	now  time.Time
	out  []Action
	wake time.Time
}

// Decide is the pure core of the agent: what to do for a pod now, and when to look again if nothing happens (zero is never).
func Decide(pod *corev1.Pod, have Have, now time.Time) ([]Action, time.Time) {
	d := &decider{pod: pod, have: have, now: now}
	switch {
	case have.Orphan || have.Ending || pod.DeletionTimestamp != nil:
		d.terminate()
	case Phase(pod, have) == corev1.PodSucceeded || Phase(pod, have) == corev1.PodFailed:
		d.stopAll("the pod has ended")
	default:
		d.run()
	}
	return d.out, d.wake
}

// do adds an action unless it is under way.
func (d *decider) do(a Action) {
	if !d.have.Busy[a.Key()] {
		d.out = append(d.out, a)
	}
}

// at asks to look again at t.
func (d *decider) at(t time.Time) {
	if d.wake.IsZero() || t.Before(d.wake) {
		d.wake = t
	}
}

// terminate stops the containers, regular ones before sidecars, then removes all, then the object.
func (d *decider) terminate() {
	if d.have.Busy[Action{Verb: Setup}.Key()] || d.starting() {
		return // what is being made must be known before it can be removed
	}
	if d.stopAll("Stopping container") {
		return
	}
	if p := d.pod.Status.Phase; Held(d.pod) && !d.have.Orphan && p != corev1.PodSucceeded && p != corev1.PodFailed {
		return // the report of its end comes first
	}
	if !d.have.Gone {
		// Nothing may write below the pod's folder while it is removed.
		if !d.have.Busy[busyRefresh] {
			d.do(Action{Verb: Teardown})
		}
		return
	}
	if !d.have.Orphan {
		d.do(Action{Verb: Delete})
	}
}

func (d *decider) starting() bool {
	for k := range d.have.Busy {
		if len(k) > len(Start) && k[:len(Start)+1] == Start+"/" {
			return true
		}
	}
	return false
}

// stopAll stops what runs and tells whether anything does.
func (d *decider) stopAll(reason string) bool {
	grace := 30 * time.Second
	if s := d.pod.Spec.TerminationGracePeriodSeconds; s != nil {
		grace = time.Duration(*s) * time.Second
	}
	if s := d.pod.DeletionGracePeriodSeconds; s != nil {
		grace = time.Duration(*s) * time.Second
	}
	regular, any := false, false
	for _, c := range d.have.Containers {
		if c.State == runtime.Running {
			any = true
			regular = regular || !d.sidecar(c.Config.Name)
		}
	}
	for _, c := range d.have.Containers {
		if c.State == runtime.Running && (!regular || !d.sidecar(c.Config.Name)) {
			d.stop(c, grace, reason)
		}
	}
	return any
}

func (d *decider) sidecar(name string) bool {
	for i := range d.pod.Spec.InitContainers {
		if c := &d.pod.Spec.InitContainers[i]; c.Name == name {
			return isSidecar(c)
		}
	}
	return false
}

func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// stop takes a container the next step to its end.
func (d *decider) stop(c runtime.Container, grace time.Duration, reason string) {
	id := c.Config.ID
	s, begun := d.have.Stops[id]
	if !begun {
		d.do(Action{Verb: StopIt, Name: c.Config.Name, ID: id, Grace: grace, Reason: reason})
		return
	}
	if s.Killed {
		return
	}
	if end := s.At.Add(min(s.Grace, grace)); !d.now.Before(end) {
		d.do(Action{Verb: Kill, Name: c.Config.Name, ID: id})
	} else {
		d.at(end)
	}
}

// run makes the pod's containers run.
func (d *decider) run() {
	if d.have.Sandbox == nil || !d.have.Sandbox.Alive || !d.have.Set {
		if w := d.have.Waiting[""]; d.now.Before(w.Until) {
			d.at(w.Until)
			return
		}
		d.do(Action{Verb: Setup})
		return
	}
	for i := range d.pod.Spec.InitContainers {
		if !d.init(&d.pod.Spec.InitContainers[i]) {
			return
		}
	}
	for i := range d.pod.Spec.Containers {
		d.keep(&d.pod.Spec.Containers[i], d.pod.Spec.RestartPolicy)
	}
	d.forget()
}

// init takes an init container the next step and tells whether the next one may begin.
func (d *decider) init(c *corev1.Container) bool {
	last := d.latest(c.Name)
	if isSidecar(c) {
		d.keep(c, corev1.RestartPolicyAlways)
		return last != nil && last.State == runtime.Running && started(c, *last, d.have)
	}
	if last != nil && last.State == runtime.Exited && last.Exit.Code == 0 {
		return true
	}
	policy := corev1.RestartPolicyOnFailure
	if d.pod.Spec.RestartPolicy == corev1.RestartPolicyNever {
		policy = corev1.RestartPolicyNever
	}
	d.keep(c, policy)
	return false
}

// latest is the newest attempt of a container that belongs to the present sandbox: those before a reboot are over.
func (d *decider) latest(name string) *runtime.Container { return latest(d.have, name) }

func latest(have Have, name string) *runtime.Container {
	c := newest(have, name)
	if c == nil || (c.State == runtime.Exited && have.Sandbox != nil && c.Exit.Started.Before(have.Sandbox.Created)) {
		return nil
	}
	return c
}

// newest is the newest attempt of a container, of whatever sandbox.
func newest(have Have, name string) *runtime.Container {
	var out *runtime.Container
	for i := range have.Containers {
		if c := &have.Containers[i]; c.Config.Name == name && (out == nil || c.Config.Attempt > out.Config.Attempt) {
			out = c
		}
	}
	return out
}

// keep starts, restarts or probes a container.
func (d *decider) keep(c *corev1.Container, policy corev1.RestartPolicy) {
	last := d.latest(c.Name)
	switch {
	case last == nil:
		attempt := 0
		if old := newest(d.have, c.Name); old != nil {
			attempt = old.Config.Attempt + 1
		}
		d.start(c, attempt, 0)
	case last.State == runtime.Running:
		d.watch(c, *last)
	case restarts(policy, last.Exit.Code):
		delay, next := backoff(*last)
		if at := last.Exit.Finished.Add(delay); d.now.Before(at) {
			d.at(at)
			return
		}
		d.start(c, last.Config.Attempt+1, next)
	}
}

func restarts(p corev1.RestartPolicy, code int) bool {
	return p == corev1.RestartPolicyAlways || p == "" || (p == corev1.RestartPolicyOnFailure && code != 0)
}

// backoff is how long a restart waits after an ended attempt, and what the one after that will wait: the first restart is at
// once, then 10 s, doubling up to 5 min; an attempt that ran 10 min starts anew.
func backoff(c runtime.Container) (delay, next time.Duration) {
	delay, err := time.ParseDuration(c.Config.Labels[labelBackoff])
	if err != nil || c.Exit.Finished.Sub(c.Exit.Started) >= backoffReset {
		delay = 0
	}
	return delay, min(max(delay*2, backoffFirst), backoffMax)
}

// waitsToRestart tells whether a container has ended, will be started again, and not yet.
func waitsToRestart(pod *corev1.Pod, have Have, c *corev1.Container, now time.Time) bool {
	l := latest(have, c.Name)
	if l == nil || l.State != runtime.Exited || have.Orphan || have.Ending || pod.DeletionTimestamp != nil || ended(pod) {
		return false
	}
	policy := pod.Spec.RestartPolicy
	if init := slices.ContainsFunc(pod.Spec.InitContainers, func(i corev1.Container) bool { return i.Name == c.Name }); init && isSidecar(c) {
		policy = corev1.RestartPolicyAlways
	} else if init && policy != corev1.RestartPolicyNever {
		policy = corev1.RestartPolicyOnFailure
	}
	delay, _ := backoff(*l)
	return restarts(policy, l.Exit.Code) && now.Before(l.Exit.Finished.Add(delay))
}

func (d *decider) start(c *corev1.Container, attempt int, next time.Duration) {
	if w := d.have.Waiting[c.Name]; d.now.Before(w.Until) {
		d.at(w.Until)
		return
	}
	d.do(Action{Verb: Start, Name: c.Name, Attempt: attempt, Backoff: next})
}

// watch probes a running container and stops it when it is sick or its image was changed.
func (d *decider) watch(c *corev1.Container, have runtime.Container) {
	id := have.Config.ID
	if _, stopping := d.have.Stops[id]; stopping {
		d.stop(have, gracePeriod(d.pod, nil), "")
		return
	}
	if h := have.Config.Hash; h != "" && h != containerHash(c) {
		d.stop(have, gracePeriod(d.pod, nil), "Container "+c.Name+" definition changed, will be restarted")
		return
	}
	kinds := map[probe.Kind]*corev1.Probe{probe.Liveness: c.LivenessProbe, probe.Readiness: c.ReadinessProbe}
	if !started(c, have, d.have) {
		kinds = map[probe.Kind]*corev1.Probe{probe.Startup: c.StartupProbe}
	}
	for _, k := range []probe.Kind{probe.Startup, probe.Liveness, probe.Readiness} {
		p := kinds[k]
		if p == nil {
			continue
		}
		s := d.have.Probes[ProbeKey{id, k}]
		if k != probe.Readiness && s.Done && !s.OK {
			d.stop(have, gracePeriod(d.pod, p), "Container "+c.Name+" failed "+lower(k)+" probe, will be restarted")
			return
		}
		if due := probe.Due(p, k, s, have.Started); d.now.Before(due) {
			d.at(due)
		} else {
			d.do(Action{Verb: Probe, Name: c.Name, ID: id, Kind: k})
		}
	}
}

func lower(k probe.Kind) string { return string(k[0]+'a'-'A') + string(k[1:]) }

func gracePeriod(pod *corev1.Pod, p *corev1.Probe) time.Duration {
	grace := int64(30)
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		grace = *s
	}
	if p != nil && p.TerminationGracePeriodSeconds != nil {
		grace = *p.TerminationGracePeriodSeconds
	}
	return time.Duration(grace) * time.Second
}

// started tells whether a running container's startup probe, if any, has succeeded.
func started(c *corev1.Container, have runtime.Container, h Have) bool {
	return c.StartupProbe == nil || h.Probes[ProbeKey{have.Config.ID, probe.Startup}].OK
}

// postStartKey names a container's postStart hook among what is under way.
func postStartKey(container string) string { return "postStart/" + container }

func hasPostStart(c *corev1.Container) bool {
	return c.Lifecycle != nil && c.Lifecycle.PostStart != nil
}

// ready tells whether a running container is ready.
func ready(c *corev1.Container, have runtime.Container, h Have) bool {
	if have.State != runtime.Running || !started(c, have, h) {
		return false
	}
	if h.Stops[have.Config.ID].Unready || hasPostStart(c) && (h.Busy[postStartKey(c.Name)] || h.Busy[Action{Verb: Start, Name: c.Name}.Key()]) {
		return false
	}
	return c.ReadinessProbe == nil || h.Probes[ProbeKey{have.Config.ID, probe.Readiness}].OK
}

// forget removes attempts that nobody can ask for any more: all but the newest and the one before it.
func (d *decider) forget() {
	for _, c := range d.have.Containers {
		last := newest(d.have, c.Config.Name)
		if c.State == runtime.Exited && c.Config.Attempt < last.Config.Attempt-1 {
			d.do(Action{Verb: Remove, Name: c.Config.Name, ID: c.Config.ID})
		}
	}
	slices.SortStableFunc(d.out, func(a, b Action) int { return cmp.Compare(order(a.Verb), order(b.Verb)) })
}

// order puts what others wait for first.
func order(verb string) int { return slices.Index([]string{Kill, StopIt, Start, Probe, Remove}, verb) }
