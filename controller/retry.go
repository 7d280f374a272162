package controller

import (
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/object"
)

const (
	// retryUnplaced is after how long at most pods that fit nowhere are tried again, and told why, though nothing happened that could help them: as
	// kube-scheduler does. Each pod has its second of that time, so that thousands do not hold up the writer at once.
	retryUnplaced = 5 * time.Minute
	// retryLate is how late a pod's turn may come; one that is missed waits for the next.
	retryLate = 10 * time.Second

	// A pod that is tried between its turns, and refused for other reasons than it says, is told so when the next retryNews begin: not in the step that found
	// it, whose outcome may not hang on who was tried. One step has at most maxNews of them told, the first of the queue; the others have their turn. So a herd
	// that waits costs at most that many writes for each change that concerns it, and one each retryNews for each pod. So often, too, maxNews classes of pods
	// are tried which nothing helped, but may be refused for another reason now (staleKey).
	retryNews = 5 * time.Second
	maxNews   = 20

	retryName = "retry-"
)

// staleKey is the step that tries pods because why they wait may have changed.
var staleKey = object.Key{Resource: "pods", Name: "stale"}

// turnOf is a pod's second.
func turnOf(p *corev1.Pod) int64 {
	h := fnv.New32a()
	h.Write([]byte(p.Namespace + "/" + p.Name))
	return int64(h.Sum32()) % int64(retryUnplaced/time.Second)
}

// retryKey is the step of the pods that have their turn with p.
func retryKey(p *corev1.Pod) object.Key {
	return object.Key{Resource: "pods", Name: retryName + strconv.FormatInt(turnOf(p), 10)}
}

// toTell is which pods a step tells again why they wait, nil for none. wake is when it comes again, if any of them waits still; ok says that it is time.
func toTell(key object.Key, now time.Time) (again func(*corev1.Pod) bool, wake time.Time, ok bool) {
	turn, err := strconv.ParseInt(strings.TrimPrefix(key.Name, retryName), 10, 64)
	switch {
	case key == schedulingKey || key == staleKey:
		return nil, wake, true
	case key.Resource == "persistentvolumeclaims":
		return func(p *corev1.Pod) bool { return p.Namespace == key.Namespace && usesClaim(p, key.Name) }, wake, true
	case key.Namespace != "" || err != nil:
		return func(p *corev1.Pod) bool { return p.Name == key.Name && p.Namespace == key.Namespace }, wake, true
	}
	every := int64(retryUnplaced / time.Second)
	late := ((now.Unix()-turn)%every + every) % every
	wake = now.Truncate(time.Second).Add(time.Duration(every-late) * time.Second)
	return func(p *corev1.Pod) bool { return turnOf(p) == turn }, wake, time.Duration(late)*time.Second < retryLate
}

func usesClaim(p *corev1.Pod, name string) bool {
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == name || v.Ephemeral != nil && p.Name+"-"+v.Name == name {
			return true
		}
	}
	return false
}
