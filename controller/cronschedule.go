package controller

import (
	"errors"
	"fmt"
	"strings"
	"time"
	// A server's machine need not have a database of time zones.
	_ "time/tzdata"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
)

// manyMissed is how many times may have been missed before a warning is due.
const manyMissed = 100

// schedule is the times of a CronJob. Where it names no zone they are UTC: Kubernetes takes the zone of whatever machine its
// controller runs on, which a plan could not know.
type schedule struct {
	cron.Schedule
	zone *time.Location
}

// parseSchedule reads a CronJob's schedule by the parser that Kubernetes uses.
func parseSchedule(c *batchv1.CronJob) (s schedule, err error) {
	defer func() {
		// The parser indexes into what it is given, and some nonsense is shorter than it thinks.
		if p := recover(); p != nil {
			err = fmt.Errorf("the schedule cannot be read: %s", PanicText(p))
		}
	}()
	s.zone = time.UTC
	text := c.Spec.Schedule
	if c.Spec.TimeZone != nil {
		if s.zone, err = time.LoadLocation(*c.Spec.TimeZone); err != nil {
			return s, fmt.Errorf("time zone %q: %w", *c.Spec.TimeZone, err)
		}
	}
	if !strings.Contains(text, "TZ") {
		text = "TZ=" + s.zone.String() + " " + text
	}
	s.Schedule, err = cron.ParseStandard(text)
	return s, err
}

// due is the newest time at or before now since the last one that was served, zero if there is none, and about how many there were.
// With late, times that are longer ago than the starting deadline do not count. The estimate and its blind spots are Kubernetes':
// the distance of the first two times stands for all.
func (s schedule) due(c *batchv1.CronJob, now time.Time, late bool) (due time.Time, missed int64, err error) {
	first := s.Next(s.since(c, now, late))
	second := s.Next(first)
	switch {
	case now.Before(first):
		return time.Time{}, 0, nil
	case now.Before(second):
		return first, 0, nil
	}
	step := int64(second.Sub(first).Round(time.Second).Seconds())
	if step < 1 {
		// The 31st of February is of good form, and never comes.
		return time.Time{}, 0, errors.New("time difference between two schedules is less than 1 second")
	}
	missed = int64(now.Sub(first).Seconds())/step + 1
	// From two steps before the estimated last one on, the schedule itself tells, which is right for uneven ones too.
	for t := s.Next(first.Add(time.Duration((missed-2)*step) * time.Second)); !t.IsZero() && !t.After(now); t = s.Next(t) {
		due = t
	}
	return due, missed, nil
}

// since is after which time the next one is looked for.
func (s schedule) since(c *batchv1.CronJob, now time.Time, late bool) time.Time {
	since := c.CreationTimestamp.Time
	if c.Status.LastScheduleTime != nil {
		since = c.Status.LastScheduleTime.Time
	}
	if late && c.Spec.StartingDeadlineSeconds != nil {
		if at := now.Add(-time.Duration(*c.Spec.StartingDeadlineSeconds) * time.Second); at.After(since) {
			since = at
		}
	}
	return since
}

// wake is the next time after the newest that has come.
func (s schedule) wake(c *batchv1.CronJob, now time.Time) time.Time {
	newest, missed, err := s.due(c, now, false)
	switch {
	case !newest.IsZero():
	case err != nil || missed > 0:
		newest = now
	default:
		newest = s.since(c, now, false)
	}
	return s.Next(newest)
}
