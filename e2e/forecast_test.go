package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// key is how a plan's JSON names an object.
type key struct {
	Resource, Namespace, Name string
}

// forecast is the part of `plan -o json` that the machines must then show.
type forecast struct {
	Changes bool
	Token   string
	Refused string
	Plan    struct {
		Changes []struct {
			Verb   string
			Key    key
			File   string
			Fields []struct{ Path, Old, New string }
		}
		Placements []struct {
			Owner key
			Pods  int
			Each  []struct {
				Pod  key
				Node string
			}
		}
		Unplaced []struct {
			Owner   key
			Pods    int
			Message string
		}
		Rules []struct {
			Verb     string
			Service  key
			Address  string
			Expected int
		}
		Counts struct{ Create, Change, Delete int }
	}
}

// foretold asks for the plan of the work tree's HEAD as JSON and checks that it has changes and says so by its exit code.
func foretold(r *repo) forecast {
	m := r.m
	m.t.Helper()
	out, err := m.try("env", "-C", r.dir, m.bin, "plan", "--kubeconfig", m.kubeconfig(), "-o", "json", "HEAD")
	if code := exitCode(err); code != 2 {
		m.t.Fatalf("plan with changes ended with %v, want exit code 2:\n%s", err, out)
	}
	var f forecast
	if err := json.Unmarshal([]byte(out), &f); err != nil {
		m.t.Fatalf("plan -o json printed no JSON: %v\n%s", err, out)
	}
	if !f.Changes || f.Token == "" || len(f.Plan.Changes) == 0 {
		m.t.Fatalf("plan -o json has no changes or no token:\n%s", out)
	}
	return f
}

// pods are the forecast's pods of a namespace, "NAME on NODE".
func (f forecast) pods(namespace string) []string {
	var out []string
	for _, p := range f.Plan.Placements {
		for _, e := range p.Each {
			if e.Pod.Namespace == namespace {
				out = append(out, e.Pod.Name+" on "+e.Node)
			}
		}
	}
	slices.Sort(out)
	return out
}

// placed are the pods of a namespace as they stand, "NAME on NODE".
func placed(m *machine, namespace string) []string {
	m.t.Helper()
	pods, err := m.client().CoreV1().Pods(namespace).List(m.t.Context(), metav1.ListOptions{})
	if err != nil {
		m.t.Fatal(err)
	}
	var out []string
	for _, p := range pods.Items {
		out = append(out, p.Name+" on "+p.Spec.NodeName)
	}
	slices.Sort(out)
	return out
}

// same checks that the pods that were foretold are those that are.
func same(t *testing.T, want, have []string) {
	t.Helper()
	if len(have) == 0 || !slices.Equal(want, have) {
		t.Errorf("the plan foretold the pods\n  %s\nthere are\n  %s", strings.Join(want, "\n  "), strings.Join(have, "\n  "))
	}
}

// rules checks that the kernel balances every rule of the forecast for a namespace over as many endpoints as it said, and that no
// service has an address of which the forecast said nothing.
func (f forecast) rules(m *machine, namespace string) {
	m.t.Helper()
	services, err := m.client().CoreV1().Services(namespace).List(m.t.Context(), metav1.ListOptions{})
	if err != nil {
		m.t.Fatal(err)
	}
	ports := map[string]bool{}
	for _, s := range services.Items {
		for _, p := range s.Spec.Ports {
			if s.Spec.ClusterIP != corev1.ClusterIPNone {
				ports[fmt.Sprintf("%s:%d/%s", s.Spec.ClusterIP, p.Port, p.Protocol)] = true
			}
		}
	}
	for _, r := range f.Plan.Rules {
		if r.Service.Namespace != namespace {
			continue
		}
		if !ports[r.Address] {
			m.t.Errorf("the plan foretold a rule for %s, which no service has: %v", r.Address, ports)
		}
		delete(ports, r.Address)
		eventually(m.t, "the kernel balances "+r.Address+" as foretold", func() error {
			if n := backends(m, r.Address); n != r.Expected {
				return fmt.Errorf("over %d endpoints, not %d", n, r.Expected)
			}
			return nil
		})
	}
	if len(ports) > 0 {
		m.t.Errorf("the plan foretold no rule for %v", ports)
	}
}

// exitCode is the exit code of a command that ran, -1 if it did not run.
func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// backends counts the endpoints over which the machine's kernel balances an address ("10.96.0.1:443/TCP"); -1 if it does not know it.
func backends(m *machine, address string) int {
	m.t.Helper()
	n := -1
	for line := range strings.Lines(m.reconcile("proxy", "show")) {
		switch {
		case strings.HasPrefix(line, "  -> "):
			if n >= 0 {
				n++
			}
		case n >= 0:
			return n
		case strings.EqualFold(strings.Fields(line + " .")[0], address):
			n = 0
		}
	}
	return n
}
