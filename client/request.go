package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

const (
	mediaJSON  = "application/json"
	mediaProto = "application/vnd.kubernetes.protobuf"
	// accept prefers protobuf and takes JSON, for kinds that have no other form.
	accept = mediaProto + "," + mediaJSON
	// requestLimit bounds a request that is not a watch.
	requestLimit = 30 * time.Second
	// maxAnswer bounds an answer that is read as a whole, against a server gone mad.
	maxAnswer = 1 << 30
)

// request is one request to whichever server answers.
type request struct {
	method string
	path   string
	query  url.Values
	body   []byte
	media  string
}

// pause is the n-th pause of a back-off (n from 0), with up to half of it taken off by chance so that clients do not come together.
func (c *Client) pause(ctx context.Context, n int) error {
	d := c.cfg.Backoff << min(n, 6)
	d = min(d, 50*c.cfg.Backoff)
	d -= rand.N(d/2 + 1)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// bare takes method and URL off an error of net/http: our own text names them.
func bare(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

// send asks one server after another until one answers, and returns its answer, whatever its code. A write goes to another server
// only if the first surely did not do it. It gives up after a round of all servers and one more.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	var last error
	for try := 0; ; try++ {
		server, count := c.server()
		res, err := c.sendTo(ctx, server, r)
		if err == nil && !tryAgain(res) {
			return res, nil
		}
		if err == nil {
			err = statusError(res)
			res.Body.Close()
		} else if ctx.Err() != nil {
			return nil, ctx.Err()
		} else if r.method != http.MethodGet && !notSent(err) {
			c.leave(server)
			return nil, fmt.Errorf("%s %s at %s: %w", r.method, r.path, server, bare(err))
		}
		last = fmt.Errorf("%s %s at %s: %w", r.method, r.path, server, bare(err))
		c.leave(server)
		if try >= 2*count {
			return nil, last
		}
		// The others are asked at once; only when all have failed there is something to wait for.
		if (try+1)%count == 0 {
			if err := c.pause(ctx, try/count); err != nil {
				return nil, errors.Join(err, last)
			}
		}
	}
}

func (c *Client) sendTo(ctx context.Context, server string, r request) (*http.Response, error) {
	u := server + r.path
	if len(r.query) > 0 {
		u += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	if r.media != "" {
		req.Header.Set("Content-Type", r.media)
	}
	return c.http.Do(req)
}

// tryAgain tells whether the server says that it did nothing and that the request may be sent again.
func tryAgain(res *http.Response) bool {
	return (res.StatusCode == http.StatusServiceUnavailable || res.StatusCode == http.StatusTooManyRequests) && res.Header.Get("Retry-After") != ""
}

// notSent tells whether a request surely has not reached a server.
func notSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// do sends a request and reads the whole answer. Codes of 400 and above are StatusErrors.
func (c *Client) do(ctx context.Context, r request) ([]byte, string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	res, err := c.send(ctx, r)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	if res.StatusCode >= 400 {
		return nil, "", statusError(res)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, "", fmt.Errorf("read the answer to %s %s: %w", r.method, r.path, err)
	}
	return b, res.Header.Get("Content-Type"), nil
}

// statusError reads the Status out of an answer; an answer without one becomes one.
func statusError(res *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		b = []byte(err.Error())
	}
	var st metav1.Status
	if json.Unmarshal(b, &st) == nil && st.Kind == "Status" {
		return &apierrors.StatusError{ErrStatus: st}
	}
	if res.Header.Get("Content-Type") == mediaProto {
		return protoStatus(b)
	}
	return apierrors.NewGenericServerResponse(res.StatusCode, res.Request.Method, object.Kind{}.GroupResource(), "", string(bytes.TrimSpace(b)), 0, true)
}

// pathOf is where a resource, or one object of it, is served.
func pathOf(k object.Kind, namespace, name, subresource string) string {
	gv := k.GVK.GroupVersion()
	p := "/apis/" + gv.Group + "/" + gv.Version
	if gv.Group == "" {
		p = "/api/" + gv.Version
	}
	if k.Namespaced && namespace != "" {
		p += "/namespaces/" + url.PathEscape(namespace)
	}
	p += "/" + k.Resource
	if name != "" {
		p += "/" + url.PathEscape(name)
	}
	if subresource != "" {
		p += "/" + subresource
	}
	return p
}

func kindOf(resource string) (object.Kind, error) {
	k, ok := object.KindOfResource(resource)
	if !ok {
		return k, fmt.Errorf("%w: no resource is called %q", object.ErrUnknownKind, resource)
	}
	return k, nil
}
