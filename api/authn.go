package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/authz"
)

// authenticate tells who asks: the subject of the verified client certificate, or the service account of a token. A master may ask to
// pass for somebody else.
func (s *Server) authenticate(r *http.Request) (authz.User, error) {
	u := authz.AnonymousUser()
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		subject := r.TLS.VerifiedChains[0][0].Subject
		u = authz.User{Name: subject.CommonName, Groups: append(slices.Clone(subject.Organization), authz.GroupAuthenticated)}
	} else if scheme, token, _ := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " "); strings.EqualFold(scheme, "Bearer") && token != "" && !isGit(r) {
		// A token that is wrong must not pass for anonymous. Other ways to say who one is are not known, as in Kubernetes.
		var err error
		if u, _, err = s.tokenUser(r.Context(), strings.TrimSpace(token), []string{issuer}); err != nil {
			s.cfg.Log.Debug("a token was refused", "path", r.URL.Path, "err", err)
			return u, apierrors.NewUnauthorized("Unauthorized")
		}
	}
	as := r.Header.Get("Impersonate-User")
	if as == "" {
		if len(r.Header["Impersonate-Group"])+len(r.Header["Impersonate-Uid"]) > 0 {
			return u, badRequest("requested to pass for somebody's groups or UID without impersonating a user: set Impersonate-User too")
		}
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
	out := authz.User{Name: as, UID: r.Header.Get("Impersonate-Uid"), Groups: append(groups, authz.GroupAuthenticated)}
	if namespace, _, ok := strings.Cut(strings.TrimPrefix(as, accountPrefix), ":"); ok && strings.HasPrefix(as, accountPrefix) && len(groups) == 0 {
		out.Groups = accountGroups(namespace)
	}
	for name, values := range r.Header {
		if key, ok := strings.CutPrefix(name, "Impersonate-Extra-"); ok {
			if out.Extra == nil {
				out.Extra = map[string][]string{}
			}
			if plain, err := url.PathUnescape(key); err == nil {
				key = plain
			}
			out.Extra[strings.ToLower(key)] = slices.Clone(values)
		}
	}
	return out, nil
}

// isGit tells whether a request is git's: its passwords are judged by the git endpoint.
func isGit(r *http.Request) bool { return len(r.URL.Path) > 5 && r.URL.Path[:5] == "/git/" }
