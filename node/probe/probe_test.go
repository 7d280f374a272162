package probe_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"reconcile/node/probe"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// TestThresholds walks each probe through answers and compares verdicts: + is a success, - a failure, each a period after the last.
func TestThresholds(t *testing.T) {
	sick := errors.New("sick")
	for _, tc := range []struct {
		kind             probe.Kind
		success, failure int32
		answers          string
		want             string // o: OK, x: failed verdict, .: none yet
		restarts         int    // how often the failure threshold was reached
	}{
		{probe.Readiness, 1, 3, "-++---+", ".ooooxo", 1},
		{probe.Readiness, 2, 1, "+-++", ".xxo", 1},
		{probe.Liveness, 1, 3, "--+---", "..ooox", 1},
		{probe.Startup, 1, 2, "-+", ".o", 0},
		{probe.Startup, 1, 2, "--", ".x", 1},
	} {
		p := &corev1.Probe{PeriodSeconds: 10, SuccessThreshold: tc.success, FailureThreshold: tc.failure}
		var s probe.State
		now, got, failures := start.Add(time.Second), "", 0
		for _, a := range tc.answers {
			var err error
			if a == '-' {
				err = sick
			}
			var failed bool
			s, _, failed = probe.Observe(p, tc.kind, s, start, now, err)
			if failed {
				failures++
			}
			switch {
			case !s.Done:
				got += "."
			case s.OK:
				got += "o"
			default:
				got += "x"
			}
			now = now.Add(10 * time.Second)
		}
		if got != tc.want || failures != tc.restarts {
			t.Errorf("%s %d/%d %s: %s and %d failures, want %s and %d", tc.kind, tc.success, tc.failure, tc.answers, got, failures, tc.want, tc.restarts)
		}
	}
}

// TestEarlyAnswers: a readiness probe is asked again soon while the program starts, and that counts as one question.
func TestEarlyAnswers(t *testing.T) {
	p := &corev1.Probe{PeriodSeconds: 10, InitialDelaySeconds: 5, FailureThreshold: 3, SuccessThreshold: 1}
	var s probe.State
	if due := probe.Due(p, probe.Readiness, s, start); due != start.Add(5*time.Second) {
		t.Errorf("the first question is due %s after the start, want initialDelaySeconds", due.Sub(start))
	}
	now, asked := start.Add(5*time.Second), 0
	for now.Before(start.Add(14 * time.Second)) {
		s, _, _ = probe.Observe(p, probe.Readiness, s, start, now, errors.New("refused"))
		asked++
		next := probe.Due(p, probe.Readiness, s, start)
		if asked == 1 && next.Sub(now) > 50*time.Millisecond {
			t.Errorf("the second question comes %s after the first", next.Sub(now))
		}
		now = next
	}
	if s.Failures != 1 || s.Done || asked < 5 || asked > 40 {
		t.Errorf("after the first period: %d questions, %+v", asked, s)
	}
	live := probe.State{Last: start}
	if due := probe.Due(p, probe.Liveness, live, start); due != start.Add(10*time.Second) {
		t.Errorf("a liveness probe is asked again after %s", due.Sub(start))
	}
}

func TestDo(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/bad":
			w.WriteHeader(http.StatusInternalServerError)
		case "/slow":
			<-r.Context().Done()
		case "/away":
			http.Redirect(w, r, "http://example.org/", http.StatusFound)
		case "/header":
			if r.Header.Get("X-A") != "1" || r.Host != "name" || !strings.HasPrefix(r.UserAgent(), "kube-probe/") {
				w.WriteHeader(http.StatusBadRequest)
			}
		}
	}))
	defer srv.Close()
	host, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	n, _ := strconv.Atoi(port)
	tls := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer tls.Close()
	_, tlsPort, _ := net.SplitHostPort(tls.Listener.Addr().String())
	get := func(path string) corev1.ProbeHandler {
		return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("web"), HTTPHeaders: []corev1.HTTPHeader{{Name: "X-A", Value: "1"}, {Name: "Host", Value: "name"}}}}
	}
	exec := func(code string) corev1.ProbeHandler {
		return corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{code}}}
	}
	target := probe.Target{PodIP: host, Container: &corev1.Container{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: int32(n)}}},
		Exec: func(_ context.Context, c []string) (int, string, error) {
			code, err := strconv.Atoi(c[0])
			return code, "why", err
		}}
	for name, tc := range map[string]struct {
		h    corev1.ProbeHandler
		want string
	}{
		"ok":         {get("/"), ""},
		"headers":    {get("/header"), ""},
		"500":        {get("/bad"), "statuscode: 500"},
		"redirect":   {get("/away"), ""},
		"slow":       {get("/slow"), "timeout"},
		"https":      {corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Scheme: "HTTPS", Port: intstr.Parse(tlsPort)}}, ""},
		"no port":    {corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromString("nope")}}, `no port "nope"`},
		"tcp":        {corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt(n)}}, ""},
		"tcp closed": {corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(1)}}, "refused"},
		"exec":       {exec("0"), ""},
		"exec fails": {exec("3"), "code 3: why"},
		"grpc":       {corev1.ProbeHandler{GRPC: &corev1.GRPCAction{}}, "not supported yet"},
	} {
		within := int32(30)
		if tc.want == "timeout" {
			within = 1
		}
		err := probe.Do(context.Background(), &corev1.Probe{TimeoutSeconds: within, ProbeHandler: tc.h}, target)
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}
