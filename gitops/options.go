package gitops

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// options are what `git push -o` may say.
type options struct {
	// allowDelete is how many objects may be pruned without the guard's objection.
	allowDelete int
	// plan asks for the plan alone: the push ends refused.
	plan bool
	// wait is how long to wait until the commit is healthy.
	wait time.Duration
}

// defaultWait is what `-o wait` means without a duration.
const defaultWait = 5 * time.Minute

// parseOptions reads push options; one that is not known is an error that lists those that are.
func parseOptions(list []string) (options, error) {
	var o options
	for _, text := range list {
		name, value, has := strings.Cut(text, "=")
		var err error
		switch {
		case name == "allow-delete" && has:
			if o.allowDelete, err = strconv.Atoi(value); err != nil || o.allowDelete < 0 {
				return o, fmt.Errorf("push option %q: want allow-delete=NUMBER", text)
			}
		case text == "plan":
			o.plan = true
		case text == "wait":
			o.wait = defaultWait
		case name == "wait" && has:
			if o.wait, err = time.ParseDuration(value); err != nil || o.wait <= 0 || o.wait > time.Hour {
				return o, fmt.Errorf("push option %q: want wait=DURATION of at most an hour, such as wait=90s", text)
			}
		default:
			return o, fmt.Errorf("push option %.60q is not known; known are allow-delete=NUMBER, plan, wait, wait=DURATION", text)
		}
	}
	return o, nil
}
