package api

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/object"
)

// defaultContainer is the annotation that names the container which is meant when none is named.
const defaultContainer = "kubectl.kubernetes.io/default-container"

// podOn finds a pod, the container that a request means (none where ports are forwarded), and the node that it runs on.
func (s *Server) podOn(ctx context.Context, t target) (*corev1.Pod, string, *corev1.Node, error) {
	o, err := s.live(ctx, t, "")
	if err != nil {
		return nil, "", nil, err
	}
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return nil, "", nil, apierrors.NewMethodNotSupported(t.groupResource(), t.subresource)
	}
	container := ""
	if t.subresource != "portforward" {
		if container, err = containerOf(pod, t.query.Get("container")); err != nil {
			return nil, "", nil, err
		}
	}
	if s.cfg.Agents == nil {
		return nil, "", nil, apierrors.NewServiceUnavailable("this server reaches no agents")
	}
	if pod.Spec.NodeName == "" {
		return nil, "", nil, badRequest("pod %s does not have a host assigned", pod.Name)
	}
	n, ok := s.cfg.Store.View().Get(object.Key{Resource: "nodes", Name: pod.Spec.NodeName})
	if !ok {
		return nil, "", nil, apierrors.NewNotFound(corev1.Resource("nodes"), pod.Spec.NodeName)
	}
	node, ok := n.(*corev1.Node)
	if !ok {
		return nil, "", nil, fmt.Errorf("the stored node %s is a %T", pod.Spec.NodeName, n)
	}
	return pod, container, node, nil
}

// containerOf chooses the container that a request means, in Kubernetes' words where it cannot.
func containerOf(pod *corev1.Pod, name string) (string, error) {
	var all, init []string
	for _, c := range pod.Spec.Containers {
		all = append(all, c.Name)
	}
	for _, c := range pod.Spec.InitContainers {
		init = append(init, c.Name)
	}
	for _, c := range append(append([]string(nil), all...), init...) {
		if c == name {
			return name, nil
		}
	}
	switch {
	case name != "":
		return "", badRequest("container %s is not valid for pod %s", name, pod.Name)
	case len(all) == 1:
		return all[0], nil
	case pod.Annotations[defaultContainer] != "":
		return containerOf(pod, pod.Annotations[defaultContainer])
	}
	more := ""
	if len(init) > 0 {
		more = fmt.Sprintf(" or one of the init containers: [%s]", strings.Join(init, " "))
	}
	return "", badRequest("a container name must be specified for pod %s, choose one of: [%s]%s", pod.Name, strings.Join(all, " "), more)
}

// logs passes a container's log on from the agent, piece by piece as it comes.
func (s *Server) logs(w http.ResponseWriter, r *http.Request, t target) error {
	pod, container, node, err := s.podOn(r.Context(), t)
	if err != nil {
		return err
	}
	if st := waiting(pod, container); st != "" && !isSet(t.query, "previous") {
		return badRequest("container %q in pod %q is waiting to start: %s", container, pod.Name, st)
	}
	q := url.Values{}
	for _, name := range []string{"follow", "previous", "timestamps", "tailLines", "sinceSeconds", "sinceTime", "limitBytes"} {
		if v := t.query.Get(name); v != "" {
			q.Set(name, v)
		}
	}
	addr, cfg, err := s.cfg.Agents.Endpoint(node)
	if err != nil {
		return apierrors.NewServiceUnavailable(err.Error())
	}
	r, end := s.keepVigil(r, "log")
	defer end()
	u := url.URL{Scheme: "https", Host: addr, Path: "/containerLogs/" + pod.Namespace + "/" + pod.Name + "/" + container, RawQuery: q.Encode()}
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	// One connection a request: a followed log holds it for as long as it lasts.
	transport := &http.Transport{
		TLSClientConfig: cfg, DisableKeepAlives: true,
		DialContext: (&net.Dialer{Timeout: agentDial}).DialContext, TLSHandshakeTimeout: agentDial,
		// An agent answers when it has found the log, whether or not there is a line in it.
		ResponseHeaderTimeout: s.cfg.Limits.StreamAnswer,
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("the agent of node %s does not answer: %v", node.Name, err))
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusNotFound && isSet(q, "previous"):
		return badRequest("previous terminated container %q in pod %q not found", container, pod.Name)
	case res.StatusCode != http.StatusOK:
		return agentError(res, node.Name)
	}
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusOK)
	relay(w, res.Body)
	return nil
}

// waiting tells why a container has not started yet, or "".
func waiting(pod *corev1.Pod, container string) string {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, c := range list {
			if c.Name == container && c.State.Waiting != nil && c.LastTerminationState.Terminated == nil {
				return waitingWords(c.State.Waiting.Reason)
			}
		}
	}
	return ""
}

// waitingWords are the words of a kubelet for why there is no log yet.
func waitingWords(reason string) string {
	switch reason {
	case "ErrImagePull":
		return "image can't be pulled"
	case "ImagePullBackOff":
		return "trying and failing to pull image"
	}
	return reason
}

// agentError turns an agent's refusal into a Status.
func agentError(res *http.Response, node string) error {
	b, err := io.ReadAll(io.LimitReader(res.Body, 4096))
	text := strings.TrimSpace(string(b))
	if err != nil || text == "" {
		text = res.Status
	}
	switch res.StatusCode {
	case http.StatusNotFound:
		return statusError(http.StatusNotFound, "NotFound", text)
	case http.StatusBadRequest:
		return badRequest("%s", text)
	}
	return apierrors.NewInternalError(fmt.Errorf("the agent of node %s answered: %s", node, text))
}

// relay copies and flushes each piece, until either side ends.
func relay(w http.ResponseWriter, from io.Reader) {
	rc := http.NewResponseController(w)
	if rc.Flush() != nil {
		return
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil || rc.Flush() != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
