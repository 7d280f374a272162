package api

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// A list in pages shows one state from its first page to its last: the one of its revision, which any server has in its history for a while (eight
// minutes, if not too much is written). A client that comes later is told to begin again (410), or to go on with the newest state by the
// token in the answer, as in Kubernetes. Nothing is kept for it meanwhile.

// pageToken is the content of a continue token. Rev 0 means the newest state.
type pageToken struct {
	Rev   uint64 `json:"rv"`
	After string `json:"after"`
	// Left is how many objects follow in that state, if the whole of it is listed and that is known: to count them at each page would take longer than
	// to list them.
	Left int64 `json:"left,omitempty"`
}

// place orders objects as View.List yields them: by their paths in the store.
func place(o object.Object) string { return o.GetNamespace() + "/" + o.GetName() }

func (t pageToken) encode() string {
	b, err := json.Marshal(t)
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func readToken(token string) (t pageToken, err error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		err = json.Unmarshal(b, &t)
	}
	if err != nil {
		return t, badRequest("invalid continue token: continue key is not valid: %v", err)
	}
	return t, nil
}

// expired is the answer to a list of a state that is no longer kept: to one in pages, with the token to go on with the newest state.
func expired(o listOptions, after string) error {
	if o.Continue == "" {
		return apierrors.NewResourceExpired(fmt.Sprintf("The resourceVersion for the provided list is too old: %s", o.ResourceVersion))
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusGone, Reason: metav1.StatusReasonExpired,
		Message:  "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
		ListMeta: metav1.ListMeta{Continue: pageToken{After: after}.encode()},
	}}
}

// at is the state of a revision, or newest if that is it. The error is ErrCompacted.
func (s *Server) at(newest View, rev uint64) (View, error) {
	if rev == newest.Rev() {
		return newest, nil
	}
	v, err := s.cfg.Store.ViewAt(rev)
	if err != nil {
		return nil, err
	}
	return v, nil
}

// forgotten tells whether the store has begun to forget a state while it was read.
func forgotten(v View) bool {
	p, ok := v.(PastView)
	return ok && errors.Is(p.Err(), ErrCompacted)
}
