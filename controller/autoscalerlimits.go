package controller

import (
	"math"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
)

// downWindow is how long a size that was asked for keeps a target from shrinking below it, where no behaviour says otherwise.
const downWindow = 5 * time.Minute

// bound brings the size that metrics ask for within what the autoscaler allows, and notes what it was.
func (s *scaling) bound(proposed int32) int32 {
	var steady, want int32
	var limited, text, held, heldText string
	if b := s.hpa.Spec.Behavior; b == nil {
		steady = s.memory.highest(proposed, s.last, func(at time.Time) bool { return !at.Before(s.now.Add(-downWindow)) })
		held, heldText = "ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation"
		s.memory.recommend(proposed, s.last)
		want, limited, text = s.plainLimit(steady)
	} else {
		steady, held, heldText = s.steadied(b, proposed)
		s.memory.recommend(proposed, s.last)
		want, limited, text = s.policyLimit(b, steady)
	}
	if steady == proposed {
		held, heldText = "ReadyForNewScale", "recommended size matches current size"
	}
	s.condition(autoscalingv2.AbleToScale, corev1.ConditionTrue, held, heldText)
	status := corev1.ConditionTrue
	if want == steady {
		status = corev1.ConditionFalse
	}
	s.condition(autoscalingv2.ScalingLimited, status, limited, text)
	return want
}

const (
	withinRange     = "DesiredWithinRange"
	withinRangeText = "the desired count is within the acceptable range"
	tooFewText      = "the desired replica count is less than the minimum replica count"
	tooManyText     = "the desired replica count is more than the maximum replica count"
	tooFastText     = "the desired replica count is increasing faster than the maximum scale rate"
)

// plainLimit is between the autoscaler's bounds, and at most twice the present size (or 4).
func (s *scaling) plainLimit(want int32) (int32, string, string) {
	most, reason, text := s.hpa.Spec.MaxReplicas, "TooManyReplicas", tooManyText
	if fast := int32(max(2*float64(s.replicas), 4)); most > fast {
		most, reason, text = fast, "ScaleUpLimit", tooFastText
	}
	switch {
	case want < s.least():
		return s.least(), "TooFewReplicas", tooFewText
	case want > most:
		return most, reason, text
	}
	return want, withinRange, withinRangeText
}

// steadied keeps the present size unless everything that was asked for in a window lies above it, or all below.
func (s *scaling) steadied(b *autoscalingv2.HorizontalPodAutoscalerBehavior, proposed int32) (int32, string, string) {
	after := func(seconds int32) func(time.Time) bool {
		cut := s.now.Add(-time.Duration(seconds) * time.Second)
		return func(at time.Time) bool { return at.After(cut) }
	}
	down := int32(downWindow / time.Second)
	if w := b.ScaleDown.StabilizationWindowSeconds; w != nil {
		down = *w
	}
	least := s.memory.lowest(proposed, s.last, after(*b.ScaleUp.StabilizationWindowSeconds))
	most := s.memory.highest(proposed, s.last, after(down))
	steady := min(max(s.replicas, least), most)
	if proposed >= s.replicas {
		return steady, "ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation"
	}
	return steady, "ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation"
}

// policyLimit is what the policies of the behaviour leave of a change.
func (s *scaling) policyLimit(b *autoscalingv2.HorizontalPodAutoscalerBehavior, want int32) (int32, string, string) {
	switch {
	case want > s.replicas:
		most, reason, text := s.hpa.Spec.MaxReplicas, "TooManyReplicas", tooManyText
		if fast := max(s.policies(b.ScaleUp, true), s.replicas); most > fast {
			most, reason, text = fast, "ScaleUpLimit", tooFastText
		}
		if want > most {
			return most, reason, text
		}
	case want < s.replicas:
		least, reason, text := s.least(), "TooFewReplicas", tooFewText
		if fast := min(s.policies(b.ScaleDown, false), s.replicas); least < fast {
			least, reason, text = fast, "ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate"
		}
		if want < least {
			return least, reason, text
		}
	}
	return want, withinRange, withinRangeText
}

// policies is the size that the policies allow: the widest of them, or the narrowest, from the size at the beginning of each one's period.
func (s *scaling) policies(r *autoscalingv2.HPAScalingRules, up bool) int32 {
	choice := autoscalingv2.MaxChangePolicySelect
	if r.SelectPolicy != nil {
		choice = *r.SelectPolicy
	}
	if choice == autoscalingv2.DisabledPolicySelect {
		return s.replicas
	}
	highest := up == (choice != autoscalingv2.MinChangePolicySelect)
	out := int32(math.MaxInt32)
	if highest {
		out = math.MinInt32
	}
	for _, p := range r.Policies {
		start := s.replicas - s.memory.changed(s.memory.Up, p.PeriodSeconds, s.now) + s.memory.changed(s.memory.Down, p.PeriodSeconds, s.now)
		var n int32
		switch {
		case p.Type == autoscalingv2.PodsScalingPolicy && up:
			n = start + p.Value
		case p.Type == autoscalingv2.PodsScalingPolicy:
			n = start - p.Value
		case up:
			n = int32(math.Ceil(float64(start) * (1 + float64(p.Value)/100)))
		default:
			n = int32(float64(start) * (1 - float64(p.Value)/100))
		}
		if highest {
			out = max(out, n)
		} else {
			out = min(out, n)
		}
	}
	return out
}
