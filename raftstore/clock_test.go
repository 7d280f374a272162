//go:build failpoints

package raftstore

import (
	"testing"
	"testing/synctest"
	"time"

	"reconcile/internal/fp"
)

// A lease does not run out because somebody sets the machine's clock (F8).
func TestLeaseOutlivesASettingOfTheClock(t *testing.T) {
	for _, skew := range []string{"1h", "-1h", "87600h"} {
		t.Run(skew, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := openOne(t, "", MemoryStorage(), nil)
				defer s.Close()
				defer runLessor(t, s)()
				synctest.Wait()
				grant(t, s, 7, 60)
				if err := fp.Set("wall=skew:" + skew); err != nil {
					t.Fatal(err)
				}
				defer func() { _ = fp.Set("") }() // nothing to read in it
				grant(t, s, 8, 5)                 // wakes who looks for what has run out
				time.Sleep(10 * time.Second)
				lives(t, s, 7, true)
				lives(t, s, 8, false)
				time.Sleep(60 * time.Second)
				lives(t, s, 7, false)
			})
		})
	}
}
