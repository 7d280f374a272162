//go:build !failpoints

package fp

import (
	"errors"
	"time"
)

// Enabled tells whether this build has failpoints.
const Enabled = false

// Hit is a place where a test may hold the process up or kill it. It does nothing in this build.
func Hit(string) {}

// Err is a place where a test may make a call fail. It is nil in this build.
func Err(string) error { return nil }

// Set tells that this build has no failpoints, unless it is to remove all.
func Set(spec string) error {
	if spec == "" {
		return nil
	}
	return errors.New("this build has no failpoints: build it with -tags failpoints")
}

// Hits is empty in this build.
func Hits() map[string]int { return nil }

// Wall is the time of day.
func Wall() time.Time { return time.Now() }
