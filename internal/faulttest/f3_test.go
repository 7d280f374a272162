package faulttest_test

import (
	"testing"
	"time"

	"reconcile/internal/faulttest"
)

// F3: a power cut of one member, then of all, by turns. Of what was not synced nothing, a part or all is there afterwards.
func TestF3PowerCut(t *testing.T) {
	rounds := faulttest.Rounds(t, 2, 20, 200)
	c := faulttest.Start(t, faulttest.Config{Disks: true})
	load := c.Load(faulttest.LoadConfig{})
	var outages []time.Duration
	for rounds.Next() {
		faulttest.Pause(300*time.Millisecond + c.UpTo(500*time.Millisecond))
		cut := c.Members
		if rounds.Made()%2 == 1 {
			cut = []*faulttest.Member{c.Members[c.IntN(len(c.Members))]}
		}
		for _, m := range cut {
			m.Kill()
		}
		keep := []float64{0, 0.5, 1}[c.IntN(3)]
		for _, m := range cut {
			m.Disk.PowerCut(keep)
			m.Start()
		}
		outages = append(outages, load.Acknowledged(20*time.Second))
	}
	faulttest.Report(t, "F3 power cut", rounds.Made(), load.Finish(rounds.Made()*60), outages)
}
