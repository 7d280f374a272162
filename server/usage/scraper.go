package usage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"reconcile/object"
)

// ScraperConfig is what a Scraper needs. All fields must be set.
type ScraperConfig struct {
	// Wanted are the metrics that somebody goes by, by node; nil while this server does not lead.
	Wanted func() map[string][]object.PodQuery
	// Ask has a node's agent ask its pods. The agent is to answer within a time with what it has by then.
	Ask func(ctx context.Context, node string, within time.Duration, queries []object.PodQuery) ([]object.PodSamples, error)
	Log *slog.Logger
}

// Validate lists all faults.
func (c ScraperConfig) Validate() error {
	if c.Wanted == nil || c.Ask == nil || c.Log == nil {
		return errors.New("usage config of a scraper: Wanted, Ask and Log must be set")
	}
	return nil
}

// Scraper has the agents ask pods for metrics of their own, those that somebody goes by and no others. It runs beside the Collector, so that a pod
// that is slow to answer holds up nothing else. It is safe for use by several goroutines.
type Scraper struct {
	cfg     ScraperConfig
	metrics atomic.Pointer[Metrics]
	// before and finds are replaced by Run's goroutine only.
	before history
	finds  finds
}

// NewScraper makes one; Run must be called for it to do anything.
func NewScraper(cfg ScraperConfig) (*Scraper, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Scraper{cfg: cfg, before: history{}}, nil
}

// Metrics is what was told last, nil if nothing was.
func (s *Scraper) Metrics() *Metrics { return s.metrics.Load() }

// Run asks until ctx ends.
func (s *Scraper) Run(ctx context.Context) error {
	return repeat(ctx, func(ctx context.Context) time.Duration {
		s.round(ctx)
		return period
	})
}

// round asks every pod that is wanted once and publishes what was told.
func (s *Scraper) round(ctx context.Context) {
	wanted := s.cfg.Wanted()
	if len(wanted) == 0 {
		s.before, s.finds = history{}, finds{}
		s.metrics.Store(nil)
		return
	}
	var mu sync.Mutex
	next, metrics := history{}, &Metrics{values: map[asked]object.MetricValue{}, faults: map[object.Key]string{}}
	finds := s.finds.next()
	// What is asked for is chosen for all nodes before the first answer is noted: both are kept in finds.
	asks := make(map[string][]object.PodQuery, len(wanted))
	for node, queries := range wanted {
		if queries = finds.choose(queries); len(queries) > 0 {
			asks[node] = queries
		}
	}
	g := errgroup.Group{}
	g.SetLimit(atOnce)
	for node, queries := range asks {
		g.Go(func() error {
			told := s.ask(ctx, node, queries)
			mu.Lock()
			defer mu.Unlock()
			for i, q := range queries {
				pod := object.Key{Resource: "pods", Namespace: q.Namespace, Name: q.Name}
				for _, x := range q.Queries {
					if of := (asked{pod, x}); s.before[of] != nil {
						next[of] = s.before[of]
					}
				}
				metrics.add(next, &told[i])
				finds.note(pod, &told[i])
			}
			return nil
		})
	}
	_ = g.Wait()
	s.before, s.finds = next, finds
	s.metrics.Store(metrics)
}

// ask asks for the pods of one node. Only what was asked for is believed: answers are of the pods asked for, in the order of the questions, and samples of
// metrics that were not asked of a pod are dropped. The agent has less time than this waits, so that pods that hang do not take the
// answers of the others with them.
func (s *Scraper) ask(ctx context.Context, node string, queries []object.PodQuery) []object.PodSamples {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	told, err := s.cfg.Ask(ctx, node, patience-onTheWay, queries)
	if err == nil && len(told) != len(queries) {
		err = fmt.Errorf("%d answers to %d questions", len(told), len(queries))
	}
	if err != nil {
		s.cfg.Log.Debug("cannot ask the pods of a node for their metrics", "node", node, "err", err)
		told = make([]object.PodSamples, len(queries))
	}
	for i, q := range queries {
		told[i].Namespace, told[i].Name = q.Namespace, q.Name
		told[i].Samples = slices.DeleteFunc(told[i].Samples, func(x object.Sample) bool { return !slices.Contains(q.Queries, x.MetricQuery) })
		if err != nil {
			told[i].Fault = "its node cannot be asked: " + err.Error()
		}
	}
	return told
}
