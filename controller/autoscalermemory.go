package controller

import (
	"encoding/json"
	"slices"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// annotationAutoscaler is where an autoscaler keeps what it asked for and did lately, in the same transaction as what follows from it.
const annotationAutoscaler = "reconcile.local/autoscaler"

// scaleMemory is what the windows and policies of an autoscaler look back on. The sizes it asked for are kept by the last time of each in a
// row, and that of the present one is not written down: so a size that stays costs no write.
type scaleMemory struct {
	Asked []pastSize `json:"asked,omitempty"`
	Up    []pastSize `json:"up,omitempty"`
	Down  []pastSize `json:"down,omitempty"`
}

// pastSize is a size, or a change of size, and when it was, in milliseconds of Unix time; 0 in the one that is still asked for.
type pastSize struct {
	N  int32 `json:"n"`
	At int64 `json:"at,omitempty"`
}

// readMemory reads what an autoscaler remembers. What cannot be read is forgotten, as Kubernetes forgets when its controller starts.
func readMemory(h *autoscalingv2.HorizontalPodAutoscaler) scaleMemory {
	var m scaleMemory
	if err := json.Unmarshal([]byte(h.Annotations[annotationAutoscaler]), &m); err != nil {
		return scaleMemory{}
	}
	return m
}

// write forgets what no window reaches, and notes the rest on h.
func (m *scaleMemory) write(h *autoscalingv2.HorizontalPodAutoscaler, now time.Time) {
	window, up, down := downWindow, time.Duration(0), time.Duration(0)
	if b := h.Spec.Behavior; b != nil {
		for _, r := range []*autoscalingv2.HPAScalingRules{b.ScaleUp, b.ScaleDown} {
			if r != nil && r.StabilizationWindowSeconds != nil {
				window = max(window, time.Duration(*r.StabilizationWindowSeconds)*time.Second)
			}
		}
		// A change counts in the policies of both directions.
		up = max(longestPeriod(b.ScaleUp), longestPeriod(b.ScaleDown))
		down = up
	}
	forget := func(list []pastSize, window time.Duration) []pastSize {
		return slices.DeleteFunc(list, func(p pastSize) bool { return p.At != 0 && p.At < now.Add(-window).UnixMilli() })
	}
	m.Asked, m.Up, m.Down = forget(m.Asked, window), forget(m.Up, up), forget(m.Down, down)
	b, err := json.Marshal(m)
	if err != nil || string(b) == "{}" {
		return
	}
	if h.Annotations == nil {
		h.Annotations = map[string]string{}
	}
	h.Annotations[annotationAutoscaler] = string(b)
}

func longestPeriod(r *autoscalingv2.HPAScalingRules) time.Duration {
	longest := int32(0)
	if r != nil {
		for _, p := range r.Policies {
			longest = max(longest, p.PeriodSeconds)
		}
	}
	return time.Duration(longest) * time.Second
}

// begin notes the size that a target has when its autoscaler first looks.
func (m *scaleMemory) begin(size int32, now time.Time) {
	if len(m.Asked) == 0 {
		m.Asked = []pastSize{{size, now.UnixMilli()}}
	}
}

// pause notes that nothing is asked for now.
func (m *scaleMemory) pause(last time.Time) {
	if n := len(m.Asked); n > 0 && m.Asked[n-1].At == 0 {
		m.Asked[n-1].At = last.UnixMilli()
	}
}

// recommend notes a size that is asked for now; last is when the one before was asked for last.
func (m *scaleMemory) recommend(size int32, last time.Time) {
	if n := len(m.Asked); n > 0 && m.Asked[n-1] == (pastSize{N: size}) {
		return
	}
	m.pause(last)
	m.Asked = append(m.Asked, pastSize{N: size})
}

// highest is the highest size asked for at the times in a window, and of now.
func (m *scaleMemory) highest(now int32, last time.Time, in func(time.Time) bool) int32 {
	for _, p := range m.Asked {
		if in(p.time(last)) {
			now = max(now, p.N)
		}
	}
	return now
}

// lowest is the lowest.
func (m *scaleMemory) lowest(now int32, last time.Time, in func(time.Time) bool) int32 {
	for _, p := range m.Asked {
		if in(p.time(last)) {
			now = min(now, p.N)
		}
	}
	return now
}

func (p pastSize) time(last time.Time) time.Time {
	if p.At == 0 {
		return last
	}
	return time.UnixMilli(p.At)
}

// scaled notes a change of size, for the policies.
func (m *scaleMemory) scaled(b *autoscalingv2.HorizontalPodAutoscalerBehavior, by int32, now time.Time) {
	switch {
	case b == nil:
	case by > 0:
		m.Up = append(m.Up, pastSize{by, now.UnixMilli()})
	default:
		m.Down = append(m.Down, pastSize{-by, now.UnixMilli()})
	}
}

// changed sums up the changes of a list in a period.
func (m *scaleMemory) changed(list []pastSize, seconds int32, now time.Time) (n int32) {
	cut := now.Add(-time.Duration(seconds) * time.Second)
	for _, p := range list {
		if time.UnixMilli(p.At).After(cut) {
			n += p.N
		}
	}
	return n
}
