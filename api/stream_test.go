package api_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/httpstream" //nolint:staticcheck // client-go's dialers still have these types
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"reconcile/api"
	"reconcile/api/apitest"
	"reconcile/node/stream"
	"reconcile/object"
	"reconcile/pki"
)

// echo is an agent's backend: exec writes its command and its input back and ends with 7.
type echo struct{}

func (echo) Exec(_ context.Context, _, pod, container string, command []string, s stream.Streams) (int, error) {
	fmt.Fprintf(s.Stdout, "%s/%s: %s\n", pod, container, strings.Join(command, " "))
	if s.Stderr != nil {
		fmt.Fprintln(s.Stderr, "to stderr")
	}
	if s.Stdin != nil {
		if _, err := io.Copy(s.Stdout, s.Stdin); err != nil {
			return 1, err
		}
	}
	return 7, nil
}

func (echo) Attach(_ context.Context, _, _, _ string, s stream.Streams) error {
	_, err := io.WriteString(s.Stdout, "attached\n")
	return err
}

func (echo) Logs(ctx context.Context, _, _, container string, o stream.LogOptions, w io.Writer) error {
	if container == "gone" {
		return stream.ErrNotFound
	}
	fmt.Fprintf(w, "tail=%d timestamps=%v previous=%v\n", o.Tail, o.Timestamps, o.Previous)
	if o.Follow {
		fmt.Fprintln(w, "more")
		<-ctx.Done()
	}
	return nil
}

// Dial answers one line on any port but 1.
func (echo) Summary(context.Context) (*statsapi.Summary, error) { return nil, nil }

func (echo) Counters(context.Context) (*object.NodeCounters, error) { return nil, nil }

func (echo) PodMetrics(context.Context, []object.PodQuery) []object.PodSamples { return nil }

func (echo) Metrics(context.Context) ([]byte, error) { return []byte("node_up 1\n"), nil }

func (echo) Dial(_ context.Context, _, pod string, port int32) (net.Conn, error) {
	if port == 1 {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		line, err := bufio.NewReader(far).ReadString('\n')
		if err == nil {
			fmt.Fprintf(far, "%s:%d heard %s", pod, port, line)
		}
	}()
	return near, nil
}

// agents reaches the one agent of the test.
type agents struct{ at atomic.Pointer[endpoint] }

type endpoint struct {
	addr string
	cfg  *tls.Config
}

func (a *agents) Endpoint(*corev1.Node) (string, *tls.Config, error) {
	at := a.at.Load()
	if at == nil {
		return "", nil, errors.New("no address")
	}
	return at.addr, at.cfg, nil
}

// startAgent serves node/stream as an agent does and tells a server how to reach it.
func startAgent(t *testing.T) *apitest.Server { return startAgentWith(t, nil) }

// startAgentWith is startAgent of a server whose configuration is changed.
func startAgentWith(t *testing.T, change func(*api.Config)) *apitest.Server {
	t.Helper()
	s, ln := listenAsAgent(t, change)
	srv := &http.Server{Handler: stream.Handler(echo{}, slog.New(slog.DiscardHandler)), ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		//nolint:errcheck // it ends with ErrServerClosed
		srv.Serve(ln)
	}()
	t.Cleanup(func() { srv.Close(); <-done })
	return s
}

// listenAsAgent starts a server that takes a listener for the agent of node n1.
func listenAsAgent(t *testing.T, change func(*api.Config)) (*apitest.Server, net.Listener) {
	t.Helper()
	store := apitest.New()
	seed(store)
	a := &agents{}
	s := apitest.Start(t, store, func(c *api.Config) {
		if c.Agents = a; change != nil {
			change(c)
		}
	})
	node, err := s.Authority.Identity(pki.NodeSpec("n1", nil))
	if err != nil {
		t.Fatal(err)
	}
	server, err := s.Authority.Identity(pki.ServerSpec("m1", []string{"127.0.0.1", "localhost"}))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", pki.AgentTLS(node, s.Authority.Pool()))
	if err != nil {
		t.Fatal(err)
	}
	a.at.Store(&endpoint{ln.Addr().String(), pki.ClientTLS(server, s.Authority.Pool(), "n1", pki.ProtoHTTP1)})
	return s, ln
}

func TestExec(t *testing.T) {
	t.Parallel()
	s := startAgent(t)
	k := newKubectl(t, s)
	for name, env := range map[string]string{"WebSocket": "true", "SPDY": "false"} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			var out []byte
			var err error
			// kubectl up to 1.32 drops what arrives before it has made its streams, and says so; newer ones wait for them.
			for try := 0; try == 0 || try < 20 && strings.Contains(string(out), "Unknown stream id"); try++ {
				cmd := k.cmd(ctx, "from stdin\n", "exec", "-i", "p1", "--", "cat", "-n")
				cmd.Env = append(cmd.Env, "KUBECTL_REMOTE_COMMAND_WEBSOCKETS="+env)
				out, err = cmd.CombinedOutput()
			}
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 7 {
				t.Errorf("exit: %v", err)
			}
			has(t, string(out), "p1/c: cat -n", "from stdin", "to stderr", "command terminated with exit code 7")
		})
	}
	has(t, k.ok("", "attach", "p1"), "attached")
	has(t, k.fails("", "exec", "p1", "-c", "nix", "--", "true"), "container nix is not valid for pod p1")
}

// TestPortForward forwards ports as kubectl does, by WebSocket and by SPDY, several connections at once.
func TestPortForward(t *testing.T) {
	t.Parallel()
	s := startAgent(t)
	cfg, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(s.URL + "/api/v1/namespaces/default/pods/p1/portforward")
	if err != nil {
		t.Fatal(err)
	}
	transport, upgrader, err := spdy.RoundTripperFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	tunnel, err := portforward.NewSPDYOverWebsocketDialer(u, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for name, dialer := range map[string]httpstream.Dialer{"WebSocket": tunnel, "SPDY": spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, u)} {
		t.Run(name, func(t *testing.T) {
			stop, ready := make(chan struct{}), make(chan struct{})
			f, err := portforward.New(dialer, []string{"0:80", "0:1"}, stop, ready, io.Discard, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- f.ForwardPorts() }()
			select {
			case <-ready:
			case err := <-done:
				t.Fatalf("forward: %v", err)
			}
			ports, err := f.GetPorts()
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for i := range 10 {
				wg.Go(func() {
					if got, want := ask(t, ports[0].Local, i), fmt.Sprintf("p1:80 heard hello %d\n", i); got != want {
						t.Errorf("answer %q, want %q", got, want)
					}
				})
			}
			wg.Wait()
			// client-go ends once a port of the pod does not answer, unless the refusal overtakes its making of the second stream
			// ("Stream reset"): then it goes on, and the other port must still be served.
			if got := ask(t, ports[1].Local, 0); got != "" {
				t.Errorf("a port that nobody serves answered %q", got)
			}
			select {
			case err := <-done:
				if !errors.Is(err, portforward.ErrLostConnectionToPod) {
					t.Errorf("ended with %v", err)
				}
			case <-time.After(20 * time.Second):
				if got := ask(t, ports[0].Local, 10); got != "p1:80 heard hello 10\n" {
					t.Errorf("it goes on after a port that nobody serves, and the other one answers %q", got)
				}
				close(stop)
				<-done
			}
		})
	}
}

// ask sends a line to a local port and returns what comes back until the end.
func ask(t *testing.T, port uint16, i int) string {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Error(err)
		return ""
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Error(err)
	}
	fmt.Fprintf(conn, "hello %d\n", i)
	//nolint:errcheck // a connection that is reset has said nothing
	b, _ := io.ReadAll(conn)
	return string(b)
}

func TestLogs(t *testing.T) {
	t.Parallel()
	s := startAgent(t)
	k := newKubectl(t, s)
	has(t, k.ok("", "logs", "p1"), "tail=-1 timestamps=false previous=false")
	has(t, k.ok("", "logs", "p1", "--tail=5", "--timestamps", "--previous"), "tail=5 timestamps=true previous=true")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := k.cmd(ctx, "", "logs", "-f", "p1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := readLines(out)
	<-lines
	if l := <-lines; l != "more" {
		t.Errorf("second line: %q", l)
	}
	cancel()
	for range lines {
	}
	//nolint:errcheck // it was killed
	cmd.Wait()

	two := pod("two", "n1")
	two.Spec.Containers = append(two.Spec.Containers, corev1.Container{Name: "gone", Image: "i"})
	s.Store.Put(two)
	c := typed(t, s, false)
	_, err = c.CoreV1().Pods("default").GetLogs("two", &corev1.PodLogOptions{}).Stream(t.Context())
	if err == nil || err.Error() != "a container name must be specified for pod two, choose one of: [c gone]" {
		t.Errorf("no container named: %v", err)
	}
	_, err = c.CoreV1().Pods("default").GetLogs("two", &corev1.PodLogOptions{Container: "gone"}).Stream(t.Context())
	if err == nil || !strings.Contains(err.Error(), "not found on this node") {
		t.Errorf("a log that is not there: %v", err)
	}
	s.Store.Put(pod("unbound", ""))
	_, err = c.CoreV1().Pods("default").GetLogs("unbound", &corev1.PodLogOptions{}).Stream(t.Context())
	if err == nil || err.Error() != "pod unbound does not have a host assigned" {
		t.Errorf("a pod with no node: %v", err)
	}
}
