package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/node/probe"
	"reconcile/node/statefile"
	"reconcile/node/volume"
	"reconcile/object"
)

// settle is how long a status that is not yet the last of a start may wait for a better one, so that a start costs one write.
const settle = 100 * time.Millisecond

// volumeInterval is how often volumes are brought up to date with the objects that they follow.
const volumeInterval = 10 * time.Second

// usageInterval is how often the size of volumes that have a limit is looked at.
const usageInterval = 5 * time.Second

// worker keeps one pod. Its fields belong to its goroutine; want and results come in under mu.
type worker struct {
	a    *Agent
	uid  string
	wake chan struct{}

	mu      sync.Mutex
	want    *corev1.Pod
	orphan  bool
	results []func(*worker)
	// refused tells that the pod was not taken. It does not change once the worker is entered.
	refused bool
	// left tells that nothing of the pod is on the machine, as have.Gone does, to those who ask from outside.
	left bool

	// taken is what pod was made of: the want that the worker has looked at.
	taken *corev1.Pod
	pod   *corev1.Pod
	have  Have
	seen  time.Time
	busy  sync.WaitGroup
	// reported is the status that the server has, and dirty since when another one is due.
	reported  *corev1.PodStatus
	dirty     time.Time
	writing   bool
	retry     time.Time
	deleted   bool
	follows   bool
	refreshed time.Time
	measured  time.Time
	// told are the attempts, by container ID, of which it was told that their restart waits.
	told    map[string]bool
	adopted bool
}

func newWorker(a *Agent, pod *corev1.Pod) *worker {
	return &worker{a: a, uid: string(pod.UID), want: pod, wake: make(chan struct{}, 1), seen: time.Now(),
		have: emptyHave(), told: map[string]bool{}}
}

func emptyHave() Have {
	return Have{Probes: map[ProbeKey]probe.State{}, Waiting: map[string]Waiting{}, Stops: map[string]Stop{}, Busy: map[string]bool{}}
}

// set tells the worker what is wanted now; nil keeps the last. It does not block.
func (w *worker) set(pod *corev1.Pod, orphan bool) {
	w.mu.Lock()
	if pod != nil {
		w.want = pod
	}
	w.orphan = orphan
	w.mu.Unlock()
	w.notify()
}

// wanted is the pod as last told. It is not to be changed.
func (w *worker) wanted() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.want
}

// notify makes the worker look.
func (w *worker) notify() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// post brings the result of an action home.
func (w *worker) post(f func(*worker)) {
	w.mu.Lock()
	w.results = append(w.results, f)
	w.mu.Unlock()
	w.notify()
}

// run keeps the pod until it is gone or ctx ends, and returns after its actions.
func (w *worker) run(ctx context.Context) {
	defer w.busy.Wait()
	for ctx.Err() == nil {
		next := w.step(ctx)
		if w.over() && w.a.retire(w) {
			return
		}
		w.wait(ctx, next)
	}
}

// wait blocks until the worker is woken, next comes (zero is never) or ctx ends.
func (w *worker) wait(ctx context.Context, next time.Time) {
	var timer <-chan time.Time
	if !next.IsZero() {
		t := time.NewTimer(time.Until(next))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-ctx.Done():
	case <-w.wake:
	case <-timer:
	}
}

// over tells whether nothing is left to do, or under way, for the pod.
func (w *worker) over() bool {
	return w.have.Gone && (w.have.Orphan || w.deleted) && len(w.have.Busy) == 0
}

// wantedAgain tells whether something came in that the worker has not looked at: it must not end then. The agent's lock is held, so
// nothing more comes in until the worker is entered nowhere.
func (w *worker) wantedAgain() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.results) > 0 || w.orphan != w.have.Orphan || w.want != w.taken
}

// step looks once: gather, decide, act, report. It returns when to look again.
func (w *worker) step(ctx context.Context) time.Time {
	w.gather(ctx)
	now := time.Now()
	if w.have.Gone && (w.have.Orphan || w.deleted) {
		return time.Time{}
	}
	late := w.deadline(now)
	actions, next := Decide(w.pod, w.have, now)
	next = earlier(next, late)
	for _, act := range actions {
		if act.Verb == Delete && now.Before(w.retry) {
			next = earlier(next, w.retry)
			continue
		}
		w.begin(ctx, act)
	}
	w.tellRestarts(now)
	next = earlier(next, w.report(ctx, now))
	next = earlier(next, w.measure(now))
	return earlier(next, w.refresh(ctx, now))
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// gather takes in what came from outside: the wanted pod, results, and the containers as the runtime knows them.
func (w *worker) gather(ctx context.Context) {
	w.mu.Lock()
	results := w.results
	w.results = nil
	want := w.want
	w.have.Orphan = w.orphan
	w.mu.Unlock()
	if want != w.taken {
		w.taken = want
		w.take(want)
	}
	for _, f := range results {
		f(w)
	}
	if w.have.Gone && !w.have.Orphan && w.pod.DeletionTimestamp == nil {
		w.anew()
	}
	w.mu.Lock()
	w.left = w.have.Gone
	w.mu.Unlock()
	list, err := w.a.edges.Runtime.List(ctx)
	if err != nil {
		// What was there is taken to be there still: to see none would be a reason to start them all.
		w.a.cfg.Log.Warn("cannot list containers", "err", err)
		return
	}
	w.have.Containers = nil
	for _, c := range list {
		if c.Config.PodUID == w.uid {
			w.have.Containers = append(w.have.Containers, c)
		}
	}
}

// anew begins the pod from nothing: it left, all of it was removed, and it is wanted again.
func (w *worker) anew() {
	busy := w.have.Busy
	w.have = emptyHave()
	w.have.Busy = busy
	w.deleted, w.refreshed, w.measured = false, time.Time{}, time.Time{}
}

// take notes a newer pod and keeps it on disk, so that a new agent knows it when no server answers.
func (w *worker) take(pod *corev1.Pod) {
	if w.reported == nil {
		w.reported = pod.Status.DeepCopy()
	}
	fresh := pod.DeepCopy()
	if w.pod != nil {
		// The agent is the status's owner: what a server has of it may be older than what was reported. Conditions of others are taken.
		fresh.Status = *w.reported.DeepCopy()
		for _, c := range pod.Status.Conditions {
			if !ownCondition(c.Type) {
				setCondition(&fresh.Status, c)
				setCondition(w.reported, c)
			}
		}
	}
	changed := w.pod == nil || !equality.Semantic.DeepEqual(w.pod.Spec, fresh.Spec) || w.pod.DeletionTimestamp.IsZero() != fresh.DeletionTimestamp.IsZero()
	w.pod = fresh
	w.follows = followsObjects(fresh)
	if changed {
		w.checkpoint()
	}
	if !w.adopted {
		w.adopted = true
		w.adopt()
	}
}

func ownCondition(t corev1.PodConditionType) bool {
	switch t {
	case corev1.PodReady, corev1.ContainersReady, corev1.PodInitialized, corev1.PodReadyToStartContainers:
		return true
	}
	return false
}

func setCondition(s *corev1.PodStatus, c corev1.PodCondition) {
	for i := range s.Conditions {
		if s.Conditions[i].Type == c.Type {
			s.Conditions[i] = c
			return
		}
	}
	s.Conditions = append(s.Conditions, c)
}

func followsObjects(pod *corev1.Pod) bool {
	for _, v := range pod.Spec.Volumes {
		if v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil {
			return true
		}
	}
	return false
}

// adopt takes probe verdicts of running containers from the last status: an agent's restart makes nothing unready.
func (w *worker) adopt() {
	for _, list := range [][]corev1.ContainerStatus{w.pod.Status.InitContainerStatuses, w.pod.Status.ContainerStatuses} {
		for _, c := range list {
			id, ok := trimPrefix(c.ContainerID)
			if !ok || c.State.Running == nil {
				continue
			}
			yes := probe.State{Done: true, OK: true, Successes: 1, Last: time.Now()}
			if c.Started != nil && *c.Started {
				w.have.Probes[ProbeKey{id, probe.Startup}] = yes
			}
			if c.Ready {
				w.have.Probes[ProbeKey{id, probe.Readiness}] = yes
			}
		}
	}
}

func trimPrefix(id string) (string, bool) {
	if len(id) <= len(containerPrefix) {
		return "", false
	}
	return id[len(containerPrefix):], true
}

// checkpointFile is the pod as last wanted, in its sandbox's folder.
const checkpointFile = "pod.json"

func (a *Agent) podDir(uid string) string { return filepath.Join(a.cfg.Root, "pods", uid) }

func (w *worker) checkpoint() {
	dir := w.a.podDir(w.uid)
	if _, err := os.Stat(dir); err != nil {
		return // written when the sandbox is made
	}
	if err := statefile.WriteJSON(filepath.Join(dir, checkpointFile), w.pod); err != nil {
		w.a.cfg.Log.Warn("cannot keep a pod on disk", "pod", w.pod.Name, "err", err)
	}
}

// refresh keeps volumes that follow objects up to date. Those of an adopted pod are looked at once at the start: an object may have changed
// while no agent was there.
func (w *worker) refresh(ctx context.Context, now time.Time) time.Time {
	if !w.follows || !w.have.Set || w.have.Gone || w.have.Orphan || w.have.Ending {
		return time.Time{}
	}
	if due := w.refreshed.Add(volumeInterval); now.Before(due) {
		return due
	}
	w.refreshed = now
	sb, ip, pod := *w.have.Sandbox, w.have.IP, w.pod
	w.spawn(busyRefresh, func() func(*worker) {
		if err := w.a.volumes(pod, sb, ip).Update(ctx); err != nil && ctx.Err() == nil {
			w.a.cfg.Log.Debug("cannot bring volumes up to date", "pod", pod.Name, "err", err)
		}
		return nil
	})
	return now.Add(volumeInterval)
}

// measure looks now and then whether the pod's volumes hold more than they may; a pod whose volumes do is evicted.
func (w *worker) measure(now time.Time) time.Time {
	if !w.have.Set || w.have.Gone || w.have.Evicted != "" || ended(w.pod) || !volume.Limited(w.pod) {
		return time.Time{}
	}
	if due := w.measured.Add(usageInterval); now.Before(due) {
		return due
	}
	w.measured = now
	sb, ip, pod := *w.have.Sandbox, w.have.IP, w.pod
	w.spawn("measure", func() func(*worker) {
		message, err := w.a.volumes(pod, sb, ip).Overused()
		if err != nil {
			w.a.podLog(pod).Warn("cannot measure the pod's volumes", "err", err)
		}
		if message == "" {
			return nil
		}
		return func(w *worker) {
			w.have.Evicted = message
			w.a.podLog(pod).Warn("pod evicted", "reason", message)
			w.a.events.tell(pod, "", corev1.EventTypeWarning, reasonEvicted, "%s", message)
		}
	})
	return now.Add(usageInterval)
}

// deadline ends a pod that has been on the node for longer than its activeDeadlineSeconds, and returns when that will be.
func (w *worker) deadline(now time.Time) time.Time {
	most := w.pod.Spec.ActiveDeadlineSeconds
	if most == nil || w.have.Evicted != "" || w.have.Orphan || w.have.Ending || w.pod.DeletionTimestamp != nil || ended(w.pod) {
		return time.Time{}
	}
	start := w.seen
	if s := w.pod.Status.StartTime; s != nil {
		start = s.Time
	}
	if end := start.Add(time.Duration(*most) * time.Second); now.Before(end) {
		return end
	}
	if phase := Phase(w.pod, w.have); phase == corev1.PodSucceeded || phase == corev1.PodFailed {
		return time.Time{} // it has ended by itself, which is not written yet
	}
	const message = "Pod was active on the node longer than the specified deadline"
	w.have.Evicted, w.have.Reason = message, reasonDeadline
	w.a.events.tell(w.pod, "", corev1.EventTypeNormal, reasonDeadline, message)
	return time.Time{}
}

// spawn does something beside the worker; what it returns is called in the worker.
func (w *worker) spawn(key string, do func() func(*worker)) {
	if w.have.Busy[key] {
		return
	}
	w.have.Busy[key] = true
	w.busy.Add(1)
	go func() {
		defer w.busy.Done()
		done := do()
		w.post(func(w *worker) {
			delete(w.have.Busy, key)
			if done != nil {
				done(w)
			}
		})
	}()
}

// report writes the status if it changed, and returns when it is due otherwise.
func (w *worker) report(ctx context.Context, now time.Time) time.Time {
	if w.have.Orphan || w.deleted || w.writing {
		return time.Time{}
	}
	if w.have.Ending && w.pod.DeletionTimestamp == nil {
		return time.Time{} // it will begin anew: how this life ends is nobody's business
	}
	s := Status(w.pod, w.have, StatusInput{HostIP: w.a.cfg.InternalIP().String(), Now: now, Start: w.seen})
	if equality.Semantic.DeepEqual(s, *w.reported) {
		w.dirty = time.Time{}
		return time.Time{}
	}
	if w.dirty.IsZero() {
		w.dirty = now
	}
	if due := w.dirty.Add(settle); !urgent(s, *w.reported) && now.Before(due) {
		return due
	}
	if now.Before(w.retry) {
		return w.retry
	}
	w.write(ctx, s)
	return time.Time{}
}

// logReady says that the pod became ready, or no longer is, once a server has it in the pod's status.
func (w *worker) logReady(now corev1.PodStatus) {
	ready, was := condition(now, corev1.PodReady) == corev1.ConditionTrue, condition(*w.reported, corev1.PodReady) == corev1.ConditionTrue
	switch {
	case ready && !was:
		w.a.podLog(w.pod).Info("pod ready", "ip", now.PodIP)
	case was && !ready && w.pod.DeletionTimestamp == nil:
		w.a.podLog(w.pod).Info("pod not ready", "phase", now.Phase)
	}
}

// urgent tells whether somebody waits for this status: readiness changed, or the pod ended.
func urgent(now, before corev1.PodStatus) bool {
	ready, was := condition(now, corev1.PodReady) == corev1.ConditionTrue, condition(before, corev1.PodReady) == corev1.ConditionTrue
	return ready != was || now.Phase != before.Phase && (now.Phase == corev1.PodSucceeded || now.Phase == corev1.PodFailed)
}

func condition(s corev1.PodStatus, t corev1.PodConditionType) corev1.ConditionStatus {
	for _, c := range s.Conditions {
		if c.Type == t {
			return c.Status
		}
	}
	return ""
}

func (w *worker) write(ctx context.Context, s corev1.PodStatus) {
	w.writing = true
	out := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.pod.Namespace, Name: w.pod.Name, UID: w.pod.UID}, Spec: w.pod.Spec, Status: s}
	out.Labels, out.Annotations = w.pod.Labels, w.pod.Annotations
	out = object.Copy(out)
	w.spawn("status", func() func(*worker) {
		wctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		_, err := w.a.cfg.Sink.UpdateStatus(wctx, out)
		return func(w *worker) {
			w.writing = false
			switch {
			case err == nil:
				again := urgent(s, *w.reported)
				w.logReady(s)
				w.reported, w.dirty, w.retry = s.DeepCopy(), time.Time{}, time.Time{}
				w.pod = w.pod.DeepCopy()
				w.pod.Status = *s.DeepCopy()
				if again {
					w.checkpoint()
				}
			case apierrors.IsNotFound(err):
				// It is gone; the source will say so.
				w.retry = time.Now().Add(5 * time.Second)
			default:
				w.retry = time.Now().Add(retryInterval)
				if !errors.Is(err, context.Canceled) {
					w.a.cfg.Log.Debug("cannot write a pod's status, trying again", "pod", w.pod.Name, "err", err)
				}
			}
		}
	})
}
