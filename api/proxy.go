package api

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/object"
)

// proxy passes a request on to a pod, to a pod behind a service, or to a node's agent, upgrades included. The name in the path may be
// SCHEME:NAME:PORT, of which scheme and port may be left out.
func (s *Server) proxy(w http.ResponseWriter, r *http.Request, t target) error {
	scheme, name, port, ok := splitProxied(t.name)
	if !ok {
		return badRequest("invalid %s request %q: want [http:|https:]NAME[:PORT]", strings.TrimSuffix(t.resource, "s"), t.name)
	}
	t.name = name
	o, err := s.live(r.Context(), t, "0")
	if err != nil {
		return err
	}
	to := &url.URL{Scheme: scheme}
	transport := s.outward
	switch o := o.(type) {
	case *corev1.Pod:
		to.Host, err = podAddress(o, port)
	case *corev1.Service:
		to.Host, err = s.serviceAddress(o, port)
	case *corev1.Node:
		transport, err = s.agentTransport(o, to)
	default:
		err = apierrors.NewMethodNotSupported(t.groupResource(), "proxy")
	}
	if err != nil {
		return err
	}
	if transport == s.outward {
		if err := mayReach(to.Host); err != nil {
			return err
		}
	}
	if t.rest == "" {
		// Links of the page behind must not lead to its parent.
		http.Redirect(w, r, r.URL.Path+"/", http.StatusMovedPermanently)
		return nil
	}
	r, end := s.keepVigil(r, "proxy")
	defer end()
	rp := httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(to)
			p.Out.URL.RawPath = t.rest
			if path, err := url.PathUnescape(t.rest); err == nil {
				p.Out.URL.Path = path
			}
			p.SetXForwarded()
			// Who asked is nobody's business behind the cluster's door.
			p.Out.Header.Del("Authorization")
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			s.writeError(w, r, apierrors.NewServiceUnavailable(fmt.Sprintf("error trying to reach service: %v", err)))
		},
	}
	rp.ServeHTTP(w, r)
	return nil
}

// newOutward makes the transport to pods: it goes straight to them, whatever proxy the server's environment names, and takes any certificate, as
// Kubernetes does: pods sign their own. dial is nil for the host's network.
func newOutward(dial func(ctx context.Context, network, address string) (net.Conn, error)) http.RoundTripper {
	if dial == nil {
		dial = (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	return &http.Transport{DialContext: dial, TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 30 * time.Second, MaxIdleConns: 100,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}} //nolint:gosec // see above
}

// mayReach refuses what the server can reach and a pod cannot be: itself, and what is on its own link, such as a cloud's metadata. An address comes
// from a status or from an EndpointSlice, so whoever writes those must not be able to ask as the server.
func mayReach(hostPort string) error {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return badRequest("%v", err)
	}
	ip, err := netip.ParseAddr(host)
	if ip = ip.Unmap(); err != nil || !ip.IsGlobalUnicast() {
		return badRequest("address not allowed")
	}
	return nil
}

// splitProxied reads the name of a proxied object.
func splitProxied(name string) (scheme, bare, port string, ok bool) {
	parts := strings.Split(name, ":")
	switch len(parts) {
	case 1:
		return "http", parts[0], "", parts[0] != ""
	case 2:
		return "http", parts[0], parts[1], parts[0] != ""
	case 3:
		scheme = cmp.Or(parts[0], "http")
		return scheme, parts[1], parts[2], parts[1] != "" && (scheme == "http" || scheme == "https")
	}
	return "", "", "", false
}

// podAddress is where a pod listens: on the port that is named, or on its first.
func podAddress(p *corev1.Pod, port string) (string, error) {
	if p.Status.PodIP == "" {
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("pod %s has no address yet", p.Name))
	}
	if port == "" {
		port = "80"
		if len(p.Spec.Containers) > 0 && len(p.Spec.Containers[0].Ports) > 0 {
			port = strconv.Itoa(int(p.Spec.Containers[0].Ports[0].ContainerPort))
		}
	}
	return net.JoinHostPort(p.Status.PodIP, port), nil
}

// serviceAddress is where one ready endpoint of a service listens. The port is the service's, by name or number.
func (s *Server) serviceAddress(svc *corev1.Service, port string) (string, error) {
	i := slices.IndexFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == port || strconv.Itoa(int(p.Port)) == port })
	if port == "" && len(svc.Spec.Ports) == 1 {
		i = 0
	}
	if i < 0 {
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %q found for service %q", port, svc.Name))
	}
	for o := range s.cfg.Store.View().List("endpointslices", svc.Namespace) {
		slice, ok := o.(*discoveryv1.EndpointSlice)
		if !ok || slice.Labels[discoveryv1.LabelServiceName] != svc.Name {
			continue
		}
		if addr, ok := readyIn(slice, svc.Spec.Ports[i].Name); ok {
			return addr, nil
		}
	}
	return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", svc.Name))
}

func readyIn(slice *discoveryv1.EndpointSlice, port string) (string, bool) {
	for _, p := range slice.Ports {
		if p.Port == nil || p.Name != nil && *p.Name != port || p.Name == nil && port != "" {
			continue
		}
		for _, e := range slice.Endpoints {
			if len(e.Addresses) > 0 && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
				return net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*p.Port))), true
			}
		}
	}
	return "", false
}

// agentTransport reaches a node's agent, with the server's certificate.
func (s *Server) agentTransport(n *corev1.Node, to *url.URL) (http.RoundTripper, error) {
	if s.cfg.Agents == nil {
		return nil, apierrors.NewServiceUnavailable("this server reaches no agents")
	}
	addr, cfg, err := s.cfg.Agents.Endpoint(object.Copy(n))
	if err != nil {
		return nil, apierrors.NewServiceUnavailable(err.Error())
	}
	to.Scheme, to.Host = "https", addr
	return &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}, nil
}
