package node

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"reconcile/node/runtime"
)

// QOSClass is Kubernetes': Guaranteed if every container limits CPU and memory and requests as much, BestEffort if none says
// anything, else Burstable.
func QOSClass(pod *corev1.Pod) corev1.PodQOSClass {
	all, any := true, false
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, c := range list {
			for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				limit, lok := c.Resources.Limits[name]
				request, rok := c.Resources.Requests[name]
				lok, rok = lok && !limit.IsZero(), rok && !request.IsZero()
				any = any || lok || rok
				if !lok || (rok && request.Cmp(limit) != 0) {
					all = false
				}
			}
		}
	}
	switch {
	case !any:
		return corev1.PodQOSBestEffort
	case all:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

// cgroupBranch is the class's part of the cgroup tree.
func cgroupBranch(q corev1.PodQOSClass) string {
	switch q {
	case corev1.PodQOSGuaranteed:
		return "guaranteed"
	case corev1.PodQOSBestEffort:
		return "besteffort"
	}
	return "burstable"
}

const (
	cpuPeriod = 100000
	minQuota  = 1000
	podPids   = 0 // no limit of ours
)

// shares and quota are the kubelet's formulas: milli*1024/1000, at least 2; milli*period/1000, at least 1 ms.
func shares(milli int64) uint64 {
	if milli <= 0 {
		return 2
	}
	return uint64(min(max(milli*1024/1000, 2), 262144))
}

func quota(milli int64) int64 {
	if milli <= 0 {
		return 0
	}
	return max(milli*cpuPeriod/1000, minQuota)
}

// containerResources are the cgroup limits of one container. memory is the node's capacity in bytes, for the OOM score.
func containerResources(pod *corev1.Pod, c *corev1.Container, memory int64) runtime.Resources {
	request := c.Resources.Requests.Cpu().MilliValue()
	if request == 0 {
		request = c.Resources.Limits.Cpu().MilliValue()
	}
	return runtime.Resources{
		CPUShares: shares(request), CPUQuota: quota(c.Resources.Limits.Cpu().MilliValue()), CPUPeriod: cpuPeriod,
		Memory: c.Resources.Limits.Memory().Value(), Pids: podPids,
		OOMScoreAdj: oomScore(pod, c, memory),
	}
}

// oomScore is the kubelet's: -997 guaranteed and node-critical, 1000 best effort, else by the share of the node's memory that is
// requested, 3 to 999.
func oomScore(pod *corev1.Pod, c *corev1.Container, memory int64) int {
	if pod.Spec.Priority != nil && *pod.Spec.Priority >= 2000001000 {
		return -997
	}
	switch QOSClass(pod) {
	case corev1.PodQOSGuaranteed:
		return -997
	case corev1.PodQOSBestEffort:
		return 1000
	}
	if memory <= 0 {
		return 999
	}
	return int(min(max(1000-1000*c.Resources.Requests.Memory().Value()/memory, 3), 999))
}

// podResources are the limits of the pod's cgroup: sums, and a limit only if every container has it.
func podResources(pod *corev1.Pod) runtime.Resources {
	var request, cpu, mem int64
	allCPU, allMem := true, true
	for _, c := range pod.Spec.Containers {
		request += c.Resources.Requests.Cpu().MilliValue()
		l, m := c.Resources.Limits.Cpu().MilliValue(), c.Resources.Limits.Memory().Value()
		cpu, mem = cpu+l, mem+m
		allCPU, allMem = allCPU && l > 0, allMem && m > 0
	}
	for _, c := range pod.Spec.InitContainers {
		r, l, m := c.Resources.Requests.Cpu().MilliValue(), c.Resources.Limits.Cpu().MilliValue(), c.Resources.Limits.Memory().Value()
		if isSidecar(&c) {
			request, cpu, mem = request+r, cpu+l, mem+m
			allCPU, allMem = allCPU && l > 0, allMem && m > 0
			continue
		}
		request, cpu, mem = max(request, r), max(cpu, l), max(mem, m)
		allCPU, allMem = allCPU && l > 0, allMem && m > 0
	}
	out := runtime.Resources{CPUShares: shares(request), CPUPeriod: cpuPeriod}
	if allCPU {
		out.CPUQuota = quota(cpu)
	}
	if allMem {
		out.Memory = mem
	}
	return out
}

// containerHash changes when the container must be restarted: its image is the only field of a running pod's containers that may
// be changed so.
func containerHash(c *corev1.Container) string {
	b, err := json.Marshal([]string{c.Name, c.Image})
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// containerID is the same for the same attempt: a start that was cut off is found again.
func containerID(pod *corev1.Pod, name string, attempt int) string {
	sum := sha256.Sum256([]byte(string(pod.UID) + "/" + name + "/" + strconv.Itoa(attempt)))
	return hex.EncodeToString(sum[:16])
}
