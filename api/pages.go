package api

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/object"
)

// A list in pages shows one state from its first page to its last, so the view of an unfinished list is kept for a while: at most
// keptViews of them, each for keptFor after its last use. A client that comes later is told to begin again (410), or to go on
// with the newest state by the token in the answer, as in Kubernetes.
const (
	keptViews = 32
	keptFor   = 5 * time.Minute
)

// pageToken is the content of a continue token. Rev 0 means the newest state.
type pageToken struct {
	Rev   uint64 `json:"rv"`
	After string `json:"after"`
}

type keptView struct {
	view View
	used time.Time
}

// pages keeps the views of lists that are not finished. It is safe for use by several goroutines.
type pages struct {
	mu   sync.Mutex
	kept map[uint64]keptView
}

// place orders objects as View.List yields them: by their paths in the store.
func place(o object.Object) string { return o.GetNamespace() + "/" + o.GetName() }

// keep stores the view and returns the token for what comes after a place in it.
func (p *pages) keep(v View, after string, now time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kept == nil {
		p.kept = map[uint64]keptView{}
	}
	p.kept[v.Rev()] = keptView{v, now}
	for rev, k := range p.kept {
		if now.Sub(k.used) > keptFor {
			delete(p.kept, rev)
		}
	}
	for len(p.kept) > keptViews {
		oldest := v.Rev()
		for rev, k := range p.kept {
			if k.used.Before(p.kept[oldest].used) {
				oldest = rev
			}
		}
		if oldest == v.Rev() {
			break
		}
		delete(p.kept, oldest)
	}
	return encodeToken(pageToken{Rev: v.Rev(), After: after})
}

func encodeToken(t pageToken) string {
	b, err := json.Marshal(t)
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// find returns the view and the place of a token.
func (p *pages) find(token string, store Store, now time.Time) (View, string, error) {
	var t pageToken
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		err = json.Unmarshal(b, &t)
	}
	if err != nil {
		return nil, "", badRequest("continue key is not valid: %v", err)
	}
	newest := store.View()
	if t.Rev == 0 || t.Rev == newest.Rev() {
		return newest, t.After, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if k, ok := p.kept[t.Rev]; ok && now.Sub(k.used) <= keptFor {
		p.kept[t.Rev] = keptView{k.view, now}
		return k.view, t.After, nil
	}
	return nil, "", &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusGone, Reason: metav1.StatusReasonExpired,
		Message:  "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
		ListMeta: metav1.ListMeta{Continue: encodeToken(pageToken{After: t.After})},
	}}
}
