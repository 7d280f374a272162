package api

import (
	"net/http"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/authz"
)

// authenticate tells who asks: the subject of the verified client certificate, whom a master may ask to pass for somebody else.
func authenticate(r *http.Request) (authz.User, error) {
	u := authz.AnonymousUser()
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		subject := r.TLS.VerifiedChains[0][0].Subject
		u = authz.User{Name: subject.CommonName, Groups: append(slices.Clone(subject.Organization), authz.GroupAuthenticated)}
	} else if r.Header.Get("Authorization") != "" && !isGit(r) {
		// No tokens and no passwords are known yet, so what was presented is wrong; it must not pass for anonymous.
		return u, apierrors.NewUnauthorized("Unauthorized")
	}
	as := r.Header.Get("Impersonate-User")
	if as == "" {
		return u, nil
	}
	if !u.In(authz.GroupMasters) {
		a := authz.Attributes{User: u, Verb: "impersonate", Resource: "users", Name: as}
		return u, forbidden(a, authz.Refusal(a))
	}
	groups := slices.Clone(r.Header.Values("Impersonate-Group"))
	if as == authz.Anonymous {
		return authz.AnonymousUser(), nil
	}
	return authz.User{Name: as, Groups: append(groups, authz.GroupAuthenticated)}, nil
}

// isGit tells whether a request is git's: its passwords are judged by the git endpoint.
func isGit(r *http.Request) bool { return len(r.URL.Path) > 5 && r.URL.Path[:5] == "/git/" }
