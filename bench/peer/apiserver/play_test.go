package apiserver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	mediaJSON  = "application/json"
	mediaProto = "application/vnd.kubernetes.protobuf"
)

// protos reads and writes protobuf bodies.
var protos = protobuf.NewSerializer(protoScheme(), protoScheme())

func protoScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, metav1.AddMetaToScheme} {
		if err := add(s); err != nil {
			panic(err)
		}
	}
	return s
}

// answer is what one side said to a step, as the client saw it.
type answer struct {
	code   int
	header http.Header
	// docs are the documents of the body: one, or one for each event of a watch. A body that is no JSON is the text.
	docs []any
	text string
}

// player plays a course on one side.
type player struct {
	side
	ns    string
	saved map[string]string
	norm  *normal
}

func newPlayer(s side, ns string) *player {
	return &player{side: s, ns: ns, saved: map[string]string{"ns": ns}, norm: newNormal()}
}

// variable is $ns or what a step has saved; $patch and its like belong to the body.
var variable = regexp.MustCompile(`\$(ns\b|[a-z][a-z0-9]*\.(rv|uid|continue|name)\b)`)

func (p *player) fill(s string, escape func(string) string) string {
	return variable.ReplaceAllStringFunc(s, func(v string) string {
		got, ok := p.saved[v[1:]]
		if !ok {
			return "unsaved-" + v[1:] // an answer that had none: both sides send the same
		}
		return escape(got)
	})
}

// catchUp lets a server that keeps a state at hand, as kube-apiserver does, come to what was written: who asks for any state, or for one that is not
// older than another, is given that one, and the course is to have one answer.
func (p *player) catchUp(ctx context.Context, s step) error {
	path, query, _ := strings.Cut(s.path, "?")
	if s.method != http.MethodGet || !strings.Contains("&"+query, "&resourceVersion=") {
		return nil
	}
	path = strings.Replace(path, "/watch/", "/", 1) // the old way to begin a watch, which has no end
	if parts := strings.Split(path, "/"); len(parts) > 2 && parts[len(parts)-3] == "$ns" {
		path = strings.Join(parts[:len(parts)-1], "/") // that of all objects, not of one
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+p.fill(path, url.QueryEscape)+"?labelSelector=nobody", http.NoBody)
	if err != nil {
		return err
	}
	res, err := p.client.Do(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return errors.Join(err, res.Body.Close())
}

// play sends a step's request and returns what is to be compared, as text.
func (p *player) play(ctx context.Context, s step) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute) // for a machine that has much else to do
	defer cancel()
	if err := p.catchUp(ctx, s); err != nil {
		return "", err
	}
	same := func(v string) string { return v }
	body := []byte(p.fill(s.body, same))
	r, err := http.NewRequestWithContext(ctx, s.method, p.url+p.fill(s.path, url.QueryEscape), nil)
	if err != nil {
		return "", err
	}
	r.Header.Set("User-Agent", "judge/1.0")
	for _, h := range s.header {
		r.Header.Set(h[0], p.fill(h[1], same))
	}
	if len(body) > 0 && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", mediaJSON)
	}
	if r.Header.Get("Content-Type") == mediaProto && len(body) > 0 && body[0] == '{' {
		if b, err := toProto(body); err == nil {
			body = b
		} else { // what was drawn has no such form
			r.Header.Set("Content-Type", mediaJSON)
		}
	}
	if len(body) > 0 {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	res, err := p.client.Do(r)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	a, err := read(res, r.URL.Query().Get("watch") != "" && r.Method == http.MethodGet)
	if err != nil {
		return "", fmt.Errorf("%s: read the answer to %s %s: %w", p.name, s.method, s.path, err)
	}
	p.keep(s, a)
	return p.norm.show(s.method, a), nil
}

// keep remembers what later steps may name.
func (p *player) keep(s step, a answer) {
	if s.save == "" || len(a.docs) == 0 {
		return
	}
	doc, _ := a.docs[len(a.docs)-1].(map[string]any)
	if o, ok := doc["object"].(map[string]any); ok {
		doc = o
	}
	meta, _ := doc["metadata"].(map[string]any)
	for short, long := range map[string]string{"rv": "resourceVersion", "uid": "uid", "continue": "continue", "name": "name"} {
		if v, ok := meta[long].(string); ok {
			p.saved[s.save+"."+short] = v
		}
	}
}

// toProto turns a body of JSON into one of protobuf.
func toProto(body []byte) ([]byte, error) {
	var tm metav1.TypeMeta
	if err := json.Unmarshal(body, &tm); err != nil {
		return nil, err
	}
	gvk := schema.FromAPIVersionAndKind(tm.APIVersion, tm.Kind)
	o, err := protoScheme().New(gvk)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(body, o); err != nil {
		return nil, err
	}
	o.GetObjectKind().SetGroupVersionKind(gvk)
	var b bytes.Buffer
	err = protos.Encode(o, &b)
	return b.Bytes(), err
}

// read reads an answer; that to a watch to its end, which the request's timeoutSeconds sets.
func read(res *http.Response, watch bool) (answer, error) {
	a := answer{code: res.StatusCode, header: res.Header}
	media, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if err != nil {
		media = ""
	}
	watch = watch && res.StatusCode == http.StatusOK
	switch {
	case watch && media == mediaProto:
		a.docs, err = readFrames(res.Body)
		return a, err
	case watch:
		lines := bufio.NewScanner(res.Body)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			var doc any
			if err := json.Unmarshal(lines.Bytes(), &doc); err != nil {
				return a, fmt.Errorf("event %q: %w", lines.Text(), err)
			}
			a.docs = append(a.docs, doc)
		}
		return a, lines.Err()
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return a, err
	}
	if media == mediaProto {
		doc, err := fromProto(b)
		a.docs = []any{doc}
		return a, err
	}
	var doc any
	if err := json.Unmarshal(b, &doc); err == nil && media == mediaJSON {
		a.docs = []any{doc}
	} else {
		a.text = string(b)
	}
	return a, nil
}

// fromProto reads a message in its envelope as what JSON would have said.
func fromProto(b []byte) (any, error) {
	o, _, err := protos.Decode(b, nil, nil)
	if err != nil {
		return nil, err
	}
	return asJSON(o)
}

func asJSON(o any) (any, error) {
	j, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	var doc any
	return doc, json.Unmarshal(j, &doc)
}

// readFrames reads a watch of protobuf.
func readFrames(r io.Reader) ([]any, error) {
	frames := protobuf.LengthDelimitedFramer.NewFrameReader(io.NopCloser(r))
	raw := protobuf.NewRawSerializer(protoScheme(), protoScheme())
	var out []any
	for {
		b := make([]byte, 1<<20)
		n, err := frames.Read(b)
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		var e metav1.WatchEvent
		if _, _, err := raw.Decode(b[:n], nil, &e); err != nil {
			return out, err
		}
		o, err := fromProto(e.Object.Raw)
		if err != nil {
			return out, err
		}
		out = append(out, map[string]any{"type": e.Type, "object": o})
	}
}

// played is one step with both answers.
type played struct {
	step       step
	peer, ours string
}

func (p played) differs() bool { return p.peer != p.ours }

// both plays a course on both sides at once.
func both(ctx context.Context, peer, ours side, c course, ns string) ([]played, error) {
	sides := []*player{newPlayer(peer, ns), newPlayer(ours, ns)}
	said := make([][]string, 2)
	errs := make(chan error, 2)
	for i, p := range sides {
		go func() {
			errs <- func() error {
				// The controllers that make a namespace's account run on neither side. It asks for no token: pods of ours get none yet.
				account := step{method: http.MethodPost, path: "/api/v1/namespaces/$ns/serviceaccounts", body: `{"metadata":{"name":"default"},"automountServiceAccountToken":false}`}
				made := step{method: http.MethodPost, path: "/api/v1/namespaces", body: `{"metadata":{"name":"$ns"}}`}
				for _, s := range append([]step{made, account}, c.steps...) {
					got, err := p.play(ctx, s)
					if err != nil {
						return fmt.Errorf("%s %s: %s: %w", s.where, strings.SplitN(s.String(), "\n", 2)[0], p.name, err)
					}
					said[i] = append(said[i], got)
				}
				return nil
			}()
		}()
	}
	for range sides {
		if err := <-errs; err != nil {
			return nil, err
		}
	}
	out := make([]played, len(c.steps))
	for i, s := range c.steps {
		out[i] = played{s, said[0][i+2], said[1][i+2]}
	}
	return out, nil
}
