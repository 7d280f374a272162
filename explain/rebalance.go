package explain

import "reconcile/scheduler"

// Rebalance is a proposal of moves; nothing is moved.
type Rebalance struct {
	Moves []Move `json:"moves"`
	// Warning names the scheduler profiles that could not be read, and were left out.
	Warning string `json:"warning,omitempty"`
}

// Move is a pod that would be better off elsewhere.
type Move struct {
	Pod  string `json:"pod"`
	From string `json:"from"`
	To   string `json:"to"`
	// Gain is in points of the score; Refused names the rule for which the old node would not take the pod today.
	Gain    int64  `json:"gain,omitempty"`
	Refused string `json:"refused,omitempty"`
}

// OfCluster proposes at most most moves that gain so many points of the score each.
func OfCluster(v View, gain int64, most int, extensions ...*Extension) Rebalance {
	out := Rebalance{Moves: []Move{}}
	profiles, err := scheduler.ReadProfiles(v, extensions...)
	if err != nil {
		out.Warning = err.Error()
	}
	for _, m := range scheduler.NewSnapshotFor(v, profiles).Rebalance(gain, most) {
		out.Moves = append(out.Moves, Move{name(m.Pod), m.From, m.To, m.Gain, m.Refused})
	}
	return out
}
