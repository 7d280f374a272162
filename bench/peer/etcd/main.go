// Command etcd lets etcd's own judge look at our store: the traffic, the recording client, the model and the validation of etcd's robustness
// tests (go.etcd.io/etcd/tests/v3), as a library, against three members of ours that are killed with SIGKILL and started again in turn.
//
// It owns the processes and folders that it makes and nothing else. A run's verdict is etcd's: Success, or what is broken. Exit status 0 means
// Success of all runs (with -expect failure: that the judge found the fault that the member's binary holds).
//
//	go run . -member ../../../bin/member [-traffic EtcdPut,EtcdPutDeleteLease,Kubernetes] [-seconds 20] [-kill 3s]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/tests/v3/robustness/client"
	"go.etcd.io/etcd/tests/v3/robustness/identity"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
	"go.etcd.io/etcd/tests/v3/robustness/traffic"
	"go.etcd.io/etcd/tests/v3/robustness/validate"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

type options struct {
	member string
	length time.Duration
	kill   time.Duration
	rate   float64
	limit  time.Duration
	keep   string
}

func main() {
	o := options{}
	list := flag.String("traffic", "EtcdPut,EtcdPutDeleteLease,Kubernetes", "etcd's names of the traffics to run, or Locks for its Lock and Election services")
	flag.StringVar(&o.member, "member", "", "binary of a member (bench/store/member)")
	flag.DurationVar(&o.length, "length", 20*time.Second, "of the traffic of each run")
	flag.DurationVar(&o.kill, "kill", 3*time.Second, "how often the next member is killed; 0 never")
	flag.Float64Var(&o.rate, "rate", 200, "requests a second of all clients: more make linearization explode")
	flag.DurationVar(&o.limit, "validate", 5*time.Minute, "time for the linearization")
	flag.StringVar(&o.keep, "keep", "", "folder for the histories of runs that fail")
	expect := flag.String("expect", "success", "success or failure")
	flag.Parse()
	bad := false
	for _, name := range strings.Split(*list, ",") {
		began := time.Now()
		verdict, counts, err := run(name, o)
		switch {
		case err != nil:
			fmt.Printf("%s: the run itself failed: %v\n", name, err)
			os.Exit(1)
		case verdict == nil:
			fmt.Printf("%s: Success: %s, judged within %s\n", name, counts, time.Since(began).Round(time.Second))
		default:
			fmt.Printf("%s: Failure: %v: %s\n", name, verdict, counts)
		}
		bad = bad || (verdict == nil) != (*expect == "success")
	}
	if bad {
		os.Exit(1)
	}
}

func traffics(name string) (traffic.Traffic, bool) {
	t, ok := map[string]traffic.Traffic{
		"EtcdPut": traffic.EtcdPut, "EtcdPutDeleteLease": traffic.EtcdPutDeleteLease, "EtcdDelete": traffic.EtcdDelete, "Kubernetes": traffic.Kubernetes,
	}[name]
	return t, ok
}

// run is one traffic on a new cluster. verdict is the judge's, err a fault of the run.
func run(name string, o options) (verdict error, counts string, err error) {
	if name == locksName {
		counts, verdict, err = runLocks(o)
		return verdict, counts, err
	}
	kind, ok := traffics(name)
	if !ok {
		return nil, "", fmt.Errorf("no traffic is called %q", name)
	}
	dir, err := os.MkdirTemp("", "judge-")
	if err != nil {
		return nil, "", err
	}
	defer os.RemoveAll(dir)
	c, err := startCluster(o.member, dir)
	if err != nil {
		return nil, "", err
	}
	defer c.stop()
	began := time.Now()
	set := client.NewSet(identity.NewIDProvider(), began)
	defer set.Close()
	if err := simulate(name, kind, c, set, o); err != nil {
		return nil, "", err
	}
	reports := set.Reports()
	persisted, missed, err := c.persisted()
	if err != nil {
		return nil, "", err
	}
	counts = count(reports, len(persisted), c.kills) + fmt.Sprintf(", %d entries by snapshot", missed)
	if c.kills >= 3 && missed == 0 {
		return nil, "", fmt.Errorf("%d kills, and no member was given a snapshot: this proves too little: %s", c.kills, counts)
	}
	// The judge says with its logger where a guarantee is broken.
	log, err := zap.NewDevelopment(zap.IncreaseLevel(zap.ErrorLevel), zap.AddStacktrace(zap.FatalLevel))
	if err != nil {
		return nil, counts, err
	}
	result := validate.ValidateAndReturnVisualize(log, validate.Config{ExpectRevisionUnique: kind.ExpectUniqueRevision()}, reports, persisted, o.limit)
	verdict = result.Error()
	if verdict != nil && o.keep != "" {
		to := filepath.Join(o.keep, name)
		if err := os.MkdirAll(to, 0o755); err != nil {
			return verdict, counts, err
		}
		return verdict, counts, errors.Join(result.Linearization.Visualize(log, filepath.Join(to, "history.html")), os.CopyFS(filepath.Join(to, "members"), os.DirFS(dir)))
	}
	return verdict, counts, nil
}

// simulate runs the traffic while members are killed, and lets it end in quiet.
func simulate(name string, kind traffic.Traffic, c *cluster, set *client.ClientSet, o options) error {
	ctx, cancel := context.WithTimeout(context.Background(), o.length+2*time.Minute)
	defer cancel()
	if err := traffic.CheckEmptyDatabaseAtStart(ctx, zap.NewNop(), c.endpoints, set); err != nil {
		return err
	}
	limiter := rate.NewLimiter(rate.Limit(o.rate), 10)
	finish := make(chan struct{})
	keys, storage := traffic.NewKeyStore(10, "key"), traffic.NewKubernetesStorage()
	profile := traffic.KeyValue{MemberClientCount: 6, ClusterClientCount: 2, MaxNonUniqueRequestConcurrency: 3}
	watches := traffic.WatchDefault
	var wg sync.WaitGroup
	err := traffic.SimulateKeyValueTraffic(ctx, &wg, &profile, c.endpoints, set, kind, traffic.RunTrafficLoopParam{
		QPSLimiter: limiter, IDs: set.IdentityProvider(), LeaseIDStorage: identity.NewLeaseIDStorage(), KeyStore: keys, Storage: storage, Finish: finish,
		NonUniqueRequestConcurrencyLimiter: traffic.NewConcurrencyLimiter(profile.MaxNonUniqueRequestConcurrency),
	})
	if err == nil {
		err = traffic.SimulateWatchTraffic(ctx, &wg, &watches, c.endpoints, set, kind, traffic.RunWatchLoopParam{
			Config: watches, QPSLimiter: limiter, KeyStore: keys, Storage: storage, Finish: finish, Logger: zap.NewNop(),
		})
	}
	if err == nil && name == "Kubernetes" {
		err = traffic.SimulateCompactionTraffic(ctx, &wg, &traffic.CompactionDefault, c.endpoints, set, kind, traffic.RunCompactLoopParam{
			Period: traffic.CompactionDefault.Period, Finish: finish,
		})
	}
	if err == nil {
		err = c.harass(o.length, o.kill)
	}
	close(finish)
	wg.Wait()
	if err != nil {
		return err
	}
	// The judge wants the last operation to succeed.
	last, err := set.NewClient(c.endpoints)
	if err != nil {
		return err
	}
	defer last.Close()
	for {
		turn, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := last.Put(turn, "tombstone", "true")
		cancel()
		if err == nil {
			return sameHash(ctx, c.endpoints)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the last put does not succeed: %w", err)
		}
	}
}

// sameHash demands that all members hold the same keys, at one revision. Leases that end meanwhile move it on.
func sameHash(ctx context.Context, endpoints []string) error {
	var last map[string]string
	for ctx.Err() == nil {
		last = map[string]string{}
		hashes := map[string]bool{}
		for _, e := range endpoints {
			c, err := clientv3.New(clientv3.Config{Endpoints: []string{e}, Logger: zap.NewNop()})
			if err != nil {
				return err
			}
			turn, cancel := context.WithTimeout(ctx, 5*time.Second)
			res, err := c.HashKV(turn, e, 0)
			cancel()
			if err := errors.Join(err, c.Close()); err != nil {
				return fmt.Errorf("ask %s for its hash: %w", e, err)
			}
			last[e] = fmt.Sprintf("%08x at revision %d", res.Hash, res.Header.Revision)
			hashes[last[e]] = true
		}
		if len(hashes) == 1 {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("the members' keys differ: %v", last)
}

func count(reports []report.ClientReport, entries, kills int) string {
	ok, failed, events := 0, 0, 0
	for _, r := range reports {
		events += r.WatchEventCount()
		for _, op := range r.KeyValue {
			if op.Output.(model.MaybeEtcdResponse).Error == "" {
				ok++
			} else {
				failed++
			}
		}
	}
	return fmt.Sprintf("%d operations, %d failed, %d events, %d persisted requests, %d kills", ok, failed, events, entries, kills)
}
