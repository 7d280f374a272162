package client

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"

	"google.golang.org/protobuf/encoding/protowire"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/object"
)

// Get returns one object, in the newest state of the cluster. apierrors.IsNotFound tells that there is none.
func (c *Client) Get(ctx context.Context, key object.Key) (object.Object, error) {
	k, err := kindOf(key.Resource)
	if err != nil {
		return nil, err
	}
	return c.one(ctx, request{method: http.MethodGet, path: pathOf(k, key.Namespace, key.Name, "")}, k)
}

// Create stores a new object and returns it as it is stored.
func (c *Client) Create(ctx context.Context, o object.Object) (object.Object, error) {
	return c.write(ctx, http.MethodPost, o, "")
}

// Update replaces an object. A stale resourceVersion is a Conflict; an empty one is none.
func (c *Client) Update(ctx context.Context, o object.Object) (object.Object, error) {
	return c.write(ctx, http.MethodPut, o, "")
}

// UpdateStatus replaces an object's status. A stale resourceVersion is a Conflict; an empty one is none.
func (c *Client) UpdateStatus(ctx context.Context, o object.Object) (object.Object, error) {
	return c.write(ctx, http.MethodPut, o, "status")
}

// Delete removes an object for good, with grace period 0, if its UID is uid (or whatever it is, if uid is empty).
func (c *Client) Delete(ctx context.Context, key object.Key, uid string) error {
	k, err := kindOf(key.Resource)
	if err != nil {
		return err
	}
	now := int64(0)
	o := metav1.DeleteOptions{GracePeriodSeconds: &now}
	if uid != "" {
		u := types.UID(uid)
		o.Preconditions = &metav1.Preconditions{UID: &u}
	}
	o.Kind, o.APIVersion = "DeleteOptions", "v1"
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	_, _, err = c.do(ctx, request{method: http.MethodDelete, path: pathOf(k, key.Namespace, key.Name, ""), body: b, media: mediaJSON})
	return err
}

// List returns the objects of a selection in the newest state of the cluster.
func (c *Client) List(ctx context.Context, sel object.Selection) ([]object.Object, error) {
	items, _, err := c.list(ctx, sel, "")
	return items, err
}

func (c *Client) write(ctx context.Context, method string, o object.Object, subresource string) (object.Object, error) {
	k, err := object.KindOfObject(o)
	if err != nil {
		return nil, err
	}
	r := request{method: method, media: mediaProto}
	name := o.GetName()
	if method == http.MethodPost {
		name = ""
	}
	r.path = pathOf(k, o.GetNamespace(), name, subresource)
	if _, ok := o.(interface{ Marshal() ([]byte, error) }); ok {
		r.body, err = object.Encode(o)
	} else {
		r.media = mediaJSON
		r.body, err = object.EncodeJSON(o)
	}
	if err != nil {
		return nil, err
	}
	return c.one(ctx, r, k)
}

// one sends a request whose answer is one object.
func (c *Client) one(ctx context.Context, r request, k object.Kind) (object.Object, error) {
	b, media, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	return decode(b, media, k)
}

func isProto(media string) bool {
	m, _, err := mime.ParseMediaType(media)
	return err == nil && m == mediaProto
}

// decode reads an object out of an answer.
func decode(b []byte, media string, k object.Kind) (object.Object, error) {
	if isProto(media) {
		return object.Decode(b)
	}
	o := k.New()
	if err := json.Unmarshal(b, o); err != nil {
		return nil, fmt.Errorf("read a %s from the server: %w", k, err)
	}
	return o, nil
}

// list returns a whole selection and its revision. resourceVersion says how fresh it must be, as Kubernetes means it.
func (c *Client) list(ctx context.Context, sel object.Selection, resourceVersion string) ([]object.Object, string, error) {
	k, err := kindOf(sel.Resource)
	if err != nil {
		return nil, "", err
	}
	b, media, err := c.do(ctx, request{method: http.MethodGet, path: pathOf(k, sel.Namespace, "", ""), query: query(sel, resourceVersion)})
	if err != nil {
		return nil, "", err
	}
	if isProto(media) {
		return protoList(b, k)
	}
	var l struct {
		Metadata metav1.ListMeta   `json:"metadata"`
		Items    []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(b, &l); err != nil {
		return nil, "", fmt.Errorf("read a list of %s: %w", k.Resource, err)
	}
	items := make([]object.Object, 0, len(l.Items))
	for _, raw := range l.Items {
		o, err := decode(raw, mediaJSON, k)
		if err != nil {
			return nil, "", err
		}
		items = append(items, o)
	}
	return items, l.Metadata.ResourceVersion, nil
}

func query(sel object.Selection, resourceVersion string) url.Values {
	q := url.Values{}
	for name, v := range map[string]string{
		"labelSelector": sel.LabelSelector, "fieldSelector": sel.FieldSelector, "resourceVersion": resourceVersion,
	} {
		if v != "" {
			q.Set(name, v)
		}
	}
	return q
}

// protoList reads any kind's List message: metadata is field 1, items are field 2.
func protoList(b []byte, k object.Kind) ([]object.Object, string, error) {
	fail := func(err error) ([]object.Object, string, error) {
		return nil, "", fmt.Errorf("read a list of %s: %w", k.Resource, err)
	}
	var u runtime.Unknown
	if len(b) < 4 {
		return fail(fmt.Errorf("it has %d bytes", len(b)))
	}
	if err := u.Unmarshal(b[4:]); err != nil {
		return fail(err)
	}
	var meta metav1.ListMeta
	var items []object.Object
	for raw := u.Raw; len(raw) > 0; {
		num, typ, n := protowire.ConsumeTag(raw)
		if n < 0 || typ != protowire.BytesType {
			return fail(fmt.Errorf("unexpected field %d of type %d", num, typ))
		}
		value, m := protowire.ConsumeBytes(raw[n:])
		if m < 0 {
			return fail(protowire.ParseError(m))
		}
		raw = raw[n+m:]
		switch num {
		case 1:
			if err := meta.Unmarshal(value); err != nil {
				return fail(err)
			}
		case 2:
			o := k.New()
			msg, ok := o.(interface{ Unmarshal([]byte) error })
			if !ok {
				return fail(fmt.Errorf("%s has no protobuf form", k))
			}
			if err := msg.Unmarshal(value); err != nil {
				return fail(err)
			}
			o.GetObjectKind().SetGroupVersionKind(k.GVK)
			items = append(items, o)
		}
	}
	return items, meta.ResourceVersion, nil
}

// Answering asks the servers one after another whether they serve, and returns the URL of the first that does.
func (c *Client) Answering(ctx context.Context) (string, error) {
	if _, _, err := c.do(ctx, request{method: http.MethodGet, path: "/readyz"}); err != nil {
		return "", err
	}
	server, _ := c.server()
	return server, nil
}
