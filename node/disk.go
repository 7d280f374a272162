package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reconcile/internal/diskspace"
	"reconcile/node/image"
)

// DiskPolicy says when the disk of the agent's folder is too full. Percentages are of the whole file system.
type DiskPolicy struct {
	// Low is the least that must be free, else the node has the condition DiskPressure: 10 % of bytes, 5 % of inodes. The condition
	// stays for Rest, 5 min, after the disk was last too full.
	Low  diskspace.Threshold
	Rest time.Duration
	// Images says which images go: from 85 % of the disk used down to 80 %, none younger than 2 min.
	Images image.Policy
	// Interval is how often the space is looked at, 10 s; images are looked at every sixth time.
	Interval time.Duration
}

// Validate lists all faults; zero fields are none.
func (p DiskPolicy) Validate() error {
	p = p.withDefaults()
	var errs []error
	for name, n := range map[string]int{"Low.Free": p.Low.Free, "Low.Inodes": p.Low.Inodes, "Images.High": p.Images.High, "Images.Low": p.Images.Low} {
		if n < 0 || n > 100 {
			errs = append(errs, fmt.Errorf("node config: Disk.%s %d: want 0 to 100 percent", name, n))
		}
	}
	if p.Images.Low >= p.Images.High {
		errs = append(errs, fmt.Errorf("node config: Disk.Images.Low %d: want less than High, %d", p.Images.Low, p.Images.High))
	}
	return errors.Join(errs...)
}

func (p DiskPolicy) withDefaults() DiskPolicy {
	p.Low.Free, p.Low.Inodes = cmp.Or(p.Low.Free, diskspace.Kubelet().Free), cmp.Or(p.Low.Inodes, diskspace.Kubelet().Inodes)
	p.Rest, p.Interval = cmp.Or(p.Rest, 5*time.Minute), cmp.Or(p.Interval, 10*time.Second)
	i := &p.Images
	i.High, i.Low, i.MinAge = cmp.Or(i.High, 85), cmp.Or(i.Low, 80), cmp.Or(i.MinAge, 2*time.Minute)
	return p
}

// disk watches the space for the agent.
type disk struct {
	a *Agent
	// changed is told when the node's condition is no longer what was reported.
	changed chan struct{}

	mu       sync.Mutex
	pressure pressure

	// Those below belong to run's goroutine.
	images []image.Record
	rounds int
}

// pressure is whether the disk counts as too full: why, and when it last was. Its zero value is no pressure.
type pressure struct {
	why  string
	last time.Time
}

// next is the pressure after a look that found low, empty if there was space enough.
func (p pressure) next(low string, now time.Time, rest time.Duration) pressure {
	switch {
	case low != "":
		return pressure{why: low, last: now}
	case p.why != "" && now.Sub(p.last) < rest:
		return p
	}
	return pressure{}
}

// run looks at the disk until ctx ends.
func (d *disk) run(ctx context.Context) error {
	for {
		if d.rounds%6 == 0 {
			d.keepImages(ctx, time.Now())
		}
		d.rounds++
		if !sleep(ctx, d.a.cfg.Disk.Interval) {
			return ctx.Err()
		}
		d.look(time.Now())
	}
}

// pressed says why the disk counts as too full; empty if it does not.
func (d *disk) pressed() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pressure.why
}

// look reads the space and tells when what it means has changed, and each minute while there is too little: what a server has of the
// node's condition may have been overwritten when the node was thought lost.
func (d *disk) look(now time.Time) {
	log := d.a.cfg.Log
	space, err := d.a.edges.Disk.Space()
	if err != nil {
		log.Warn("cannot watch the disk", "err", err)
		return
	}
	low := d.a.cfg.Disk.Low.Low(space)
	if low != "" {
		low += " at " + d.a.cfg.Root
	}
	d.mu.Lock()
	before := d.pressure
	d.pressure = before.next(low, now, d.a.cfg.Disk.Rest)
	after := d.pressure
	d.mu.Unlock()
	switch {
	case before.why == "" && after.why != "":
		log.Warn("the disk is nearly full: no more pods are taken until there is space", "node", d.a.cfg.NodeName, "space", after.why)
	case before.why != "" && after.why == "":
		log.Info("the disk has space again", "node", d.a.cfg.NodeName)
	case after.why == "" || d.rounds%6 != 0:
		return
	}
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// critical tells whether a pod is of the two system priorities.
func critical(pod *corev1.Pod) bool {
	const systemCritical = 2_000_000_000
	return pod.Spec.Priority != nil && *pod.Spec.Priority >= systemCritical
}

// keepImages notes which images are used, and removes some when the disk is too full.
func (d *disk) keepImages(ctx context.Context, now time.Time) {
	log, policy := d.a.cfg.Log, d.a.cfg.Disk.Images
	list, err := d.a.edges.Images.List()
	if err != nil {
		log.Warn("cannot look at the images", "err", err)
		return
	}
	used, err := d.a.usedImages(ctx)
	if err != nil {
		log.Warn("cannot tell which images are used", "err", err)
		return
	}
	d.images = image.Observe(d.images, list, used, now)
	for begun := false; ctx.Err() == nil; begun = true {
		space, err := d.a.edges.Disk.Space()
		if err != nil || !begun && space.UsedPercent() < policy.High {
			return
		}
		if !begun {
			if err := d.a.edges.Images.Sweep(ctx); err != nil {
				log.Warn("cannot free what no image needs", "err", err)
				return
			}
			continue // that may have been enough
		}
		victim, ok := policy.Next(d.images, space.UsedPercent(), begun, now)
		if !ok {
			return
		}
		if err := d.a.edges.Images.Collect(ctx, victim); err != nil {
			log.Warn("cannot remove an image", "image", victim.Names, "err", err)
			victim.InUse = true // not again in this round
		} else {
			log.Warn("image removed: the disk is nearly full and no container uses it; import or build it again when it is wanted", "image", victim.Names, "disk", fmt.Sprintf("%d %% used", space.UsedPercent()))
		}
		d.images = without(d.images, victim)
	}
}

// without takes a record out, or keeps it as one that is in use.
func without(list []image.Record, r image.Record) []image.Record {
	var out []image.Record
	for _, x := range list {
		switch {
		case x.ID != r.ID:
			out = append(out, x)
		case r.InUse:
			out = append(out, r)
		}
	}
	return out
}

// usedImages are the IDs of the images that a container has, running or ended, or that a pod of this node names: one that waits to be started
// again must find its image.
func (a *Agent) usedImages(ctx context.Context) (map[string]bool, error) {
	list, err := a.edges.Runtime.List(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, c := range list {
		out[c.Config.ImageID] = true
	}
	for _, name := range a.wantedImages() {
		if img, err := a.edges.Images.Resolve(name); err == nil { // else there is none to keep
			out[img.ID] = true
		}
	}
	return out, nil
}

// wantedImages are the images that this node's pods name.
func (a *Agent) wantedImages() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []string
	for _, w := range a.workers {
		pod := w.wanted()
		for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
			for _, c := range containers {
				out = append(out, c.Image)
			}
		}
	}
	return out
}
