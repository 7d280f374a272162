package image

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// Record is what is known of one image on the node for the choice of those that may go.
type Record struct {
	// ID is the image's, Names all names of it.
	ID    string
	Names []string
	// Seen is when the image was first noticed, Used when a container or a pod last had it. InUse is whether one has it now.
	Seen, Used time.Time
	InUse      bool
}

// Policy is the kubelet's rule for images: from High percent of the disk used down to Low, none younger than MinAge.
type Policy struct {
	High, Low int
	MinAge    time.Duration
}

// Next is the image to remove now; ok is false when there is none to remove. usedPercent is how full the disk is, and begun tells that the
// collection has begun, which it does from High on, and goes on down to Low. The image that was used longest ago goes first, of those never
// used the one that was noticed first.
func (p Policy) Next(records []Record, usedPercent int, begun bool, now time.Time) (r Record, ok bool) {
	if !begun && usedPercent < p.High || begun && usedPercent <= p.Low {
		return Record{}, false
	}
	var may []Record
	for _, r := range records {
		if !r.InUse && now.Sub(r.Seen) >= p.MinAge {
			may = append(may, r)
		}
	}
	if len(may) == 0 {
		return Record{}, false
	}
	return slices.MinFunc(may, func(a, b Record) int {
		return cmp.Or(a.Used.Compare(b.Used), a.Seen.Compare(b.Seen), cmp.Compare(a.ID, b.ID))
	}), true
}

// Observe brings records up to date: images that are new are entered with now, those that are gone left out. used are the IDs in use.
func Observe(before []Record, images []Image, used map[string]bool, now time.Time) []Record {
	known, out := map[string]Record{}, map[string]Record{}
	for _, r := range before {
		known[r.ID] = r
	}
	for _, img := range images {
		r, again := out[img.ID]
		if !again {
			old, ok := known[img.ID]
			if !ok {
				old.Seen = now
			}
			r = Record{ID: img.ID, Seen: old.Seen, Used: old.Used, InUse: used[img.ID]}
			if r.InUse {
				r.Used = now
			}
		}
		r.Names = append(r.Names, img.Name)
		out[img.ID] = r
	}
	list := make([]Record, 0, len(out))
	for _, r := range out {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b Record) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Collect removes all names of an image with what only it needs, unless a container uses it: the error is then ErrInUse, and the image is
// whole.
func (s *Store) Collect(ctx context.Context, r Record) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	refs, err := s.read()
	if err != nil {
		return err
	}
	var gone Image
	for _, n := range r.Names {
		if img, ok := refs[n]; ok && img.ID == r.ID {
			gone = img
			delete(refs, n)
		}
	}
	if gone.ID == "" {
		return nil
	}
	if hasID(refs, gone.ID) {
		return errors.New("it was given another name meanwhile")
	}
	if err := s.refuseUsed(gone, refs); err != nil {
		return err
	}
	if err := s.write(refs); err != nil {
		return err
	}
	return s.sweep(ctx, refs)
}

// Sweep removes layers and blobs that no image needs: those of names that were given to other images while containers ran.
func (s *Store) Sweep(ctx context.Context) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	refs, err := s.read()
	if err != nil {
		return err
	}
	return s.sweep(ctx, refs)
}
