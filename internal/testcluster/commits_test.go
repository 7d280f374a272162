package testcluster_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"reconcile/cluster"
	"reconcile/gitops"
	"reconcile/internal/commitgen"
	"reconcile/internal/testcluster"
	"reconcile/manifests"
	"reconcile/manifests/git"
	"reconcile/object"
	"reconcile/plan"
	"reconcile/proxy/model"
	"reconcile/raftstore"
)

// repository gives gitops the packs and refs of a member's store.
type repository struct{ s *testcluster.Server }

func (r repository) View() git.View { return records{r.s.Store().View()} }

func (r repository) Blob(_ context.Context, digest string) ([]byte, error) {
	return r.s.Store().Blob(digest)
}

type records struct{ v *raftstore.View }

func (r records) Get(key string) ([]byte, bool) {
	rec, ok := r.v.Get(key)
	if !ok {
		return nil, false
	}
	return rec.Value, true
}

func (r records) Range(prefix string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for rec := range r.v.Range(prefix) {
			if !yield(rec.Key, rec.Value) {
				return
			}
		}
	}
}

type objects struct{ s *testcluster.Server }

func (o objects) View() gitops.View { return o.s.View() }

// TestRandomCommits plays random commits of a repository, each planned at one server and applied at another: the token of the plan is
// that of the apply, the pods stand where the plan said, and once all is ready the service rules have the endpoints that it expected.
func TestRandomCommits(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		p := player{t: t, c: startReal(t, 10)}
		loader, err := manifests.NewLoader(manifests.Config{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			s := p.c.Server(i)
			g, err := gitops.New(gitops.Config{Cluster: "sim", Store: repository{s}, State: objects{s}, Writer: s.Seq(), Loader: loader, Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			p.doors = append(p.doors, g)
		}
		repo := commitgen.New(rand.New(rand.NewPCG(seed, 0)))
		for i := range 200 {
			p.play(i, repo.Next())
		}
		t.Logf("%d pods placed, %d rules foretold, %d commits planned anew", p.placed, p.rules, p.again)
		if p.placed < 300 || p.rules < 50 || p.again > 10 {
			t.Errorf("%d pods were placed, %d rules foretold, %d commits planned anew: the test proves little", p.placed, p.rules, p.again)
		}
		p.c.Settled()
	})
}

// player plays commits and compares what comes of them with what was planned.
type player struct {
	t     *testing.T
	c     *testcluster.Cluster
	doors []*gitops.Service

	// placed pods and foretold rules were compared; again counts the commits that had to be planned anew.
	placed, rules, again int
}

// play plans a commit by one server and applies it by the next.
func (p *player) play(i int, commit commitgen.Commit) {
	p.t.Helper()
	name := fmt.Sprintf("commit %d (%s)", i, commit.Message)
	req := gitops.PlanRequest{Message: commit.Message}
	for path, content := range commit.Files {
		req.Files = append(req.Files, gitops.File{Path: path, Data: []byte(content)})
	}
	before := p.c.Server((i + 1) % 3).View().Rev()
	said, done := p.apply(name, req, i)
	if said.Token != done.Token {
		p.t.Fatalf("%s: the plan\n%s\nis not what was applied\n%s", name, said.Text, done.Text)
	}
	if said.Text != done.Text {
		p.t.Fatalf("%s: the plan\n%s\nreads otherwise when it is applied\n%s", name, said.Text, done.Text)
	}
	var want plan.Plan
	if err := json.Unmarshal(said.Plan, &want); err != nil {
		p.t.Fatal(err)
	}
	nodes := p.bound((i+1)%3, before)
	for _, group := range want.Placements {
		for _, one := range group.Each {
			if have := nodes[one.Pod]; have != one.Node {
				p.t.Fatalf("%s: %s is on %q, not on %s as planned", name, one.Pod, have, one.Node)
			}
			p.placed++
		}
	}
	if wrong := differ(p.c, want.Rules); wrong != "" {
		p.t.Fatalf("%s: %s\n%s", name, wrong, said.Text)
	}
	p.rules += len(want.Rules)
	for o := range p.c.Leader().View().List("nodes", "") {
		if ready, tainted := lifeOf(p.c.Leader().View(), o.GetName()); ready != corev1.ConditionTrue || tainted {
			p.t.Fatalf("%s: node %s is Ready=%s, tainted %v", name, o.GetName(), ready, tainted)
		}
	}
}

// bound are the nodes on which a server has seen pods come since a revision: a rollout may have stopped one again by now.
func (p *player) bound(server int, since uint64) map[object.Key]string {
	p.t.Helper()
	s := p.c.Server(server)
	out := map[object.Key]string{}
	w, err := cluster.WatchObjects(s.Store(), "pods", "", since)
	if err != nil {
		p.t.Fatal(err)
	}
	for now := s.View().Rev(); ; {
		ctx, cancel := context.WithTimeout(p.t.Context(), time.Millisecond)
		events, upTo, err := w.Next(ctx)
		cancel()
		for _, e := range events {
			if pod := e.Object.(*corev1.Pod); e.Type != cluster.Deleted && pod.Spec.NodeName != "" {
				out[object.KeyOf(pod)] = pod.Spec.NodeName
			}
		}
		if err != nil || upTo >= now {
			return out
		}
	}
}

// apply plans and applies when the cluster is still. Which pods a scale-down stops depends on their ages, so a plan can be outdated by time
// alone: then it is refused, as it must be, and made anew.
func (p *player) apply(name string, req gitops.PlanRequest, i int) (said, done gitops.PlanResponse) {
	p.t.Helper()
	for range 3 {
		still(p.t, p.c)
		var err error
		said, err = p.doors[i%3].Plan(p.t.Context(), "sim", req)
		if err != nil || len(said.Findings) > 0 || said.Refused != "" {
			p.t.Fatalf("%s: plan: %v %v %s", name, err, said.Findings, said.Refused)
		}
		with := req
		with.Token = said.Token
		done, err = p.doors[(i+1)%3].Apply(p.t.Context(), "sim", with)
		if err != nil {
			p.t.Fatalf("%s: apply: %v", name, err)
		}
		if done.Refused == "" {
			return said, done
		}
		if !strings.Contains(done.Refused, "plan") {
			p.t.Fatalf("%s: apply: %s", name, done.Refused)
		}
		p.again++
	}
	p.t.Fatalf("%s: no plan was up to date at its apply: %s", name, done.Refused)
	return said, done
}

// still waits until nothing has changed on any server for three seconds: longer than any pod takes to become ready, so that plan and
// apply see the same machines.
func still(t *testing.T, c *testcluster.Cluster) {
	t.Helper()
	last := uint64(0)
	for since := time.Now(); time.Since(since) < 3*time.Second; time.Sleep(100 * time.Millisecond) {
		for i := range 3 {
			if rev := c.Server(i).View().Rev(); rev > last {
				last, since = rev, time.Now()
			}
		}
	}
}

// differ waits until the service rules are those foretold; after two minutes it says which one is not.
func differ(c *testcluster.Cluster, rules []plan.Rule) (wrong string) {
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		wrong = ""
		have := endpointsOf(c.Leader().View())
		for _, r := range rules {
			n, ok := have[r.Service.String()+" "+r.Address]
			if ok == (r.Verb == plan.VerbDelete) || ok && n != r.Expected {
				wrong = fmt.Sprintf("the plan said %s of %s at %s with %d endpoints; there are %d (%v)", r.Verb, r.Service, r.Address, r.Expected, n, ok)
			}
		}
		if wrong == "" || time.Now().After(deadline) {
			return wrong
		}
	}
}

// endpointsOf counts the endpoints behind each service rule.
func endpointsOf(v *cluster.View) map[string]int {
	var services []*corev1.Service
	var list []*discoveryv1.EndpointSlice
	for o := range v.List("services", "") {
		services = append(services, o.(*corev1.Service))
	}
	for o := range v.List("endpointslices", "") {
		list = append(list, o.(*discoveryv1.EndpointSlice))
	}
	out := map[string]int{}
	for _, r := range model.Rules(services, list) {
		k := object.Key{Resource: "services", Namespace: r.Namespace, Name: r.Service}
		out[k.String()+" "+r.Frontend] = len(r.Backends)
	}
	return out
}
