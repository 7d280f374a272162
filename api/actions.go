package api

import (
	"net/http"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	custommetricsv1beta2 "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	externalmetricsv1beta1 "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"reconcile/authz"
)

// action is a resource that is asked and never stored: by a POST, or, if reads, by a GET. One without a name for the resource is each of its group, which
// are not known beforehand, with what follows in the path.
type action struct {
	gvk        schema.GroupVersionKind
	resource   string
	namespaced bool
	reads      bool
	serve      func(*Server, http.ResponseWriter, *http.Request, target) error
}

// verbs are those of discovery.
func (a action) verbs() []string {
	if a.reads {
		return []string{"get", "list"}
	}
	return []string{"create"}
}

// actions returns the table of them.
func actions() []action {
	return []action{
		{corev1.SchemeGroupVersion.WithKind("Binding"), "bindings", true, false, (*Server).bindNamed},
		{authenticationv1.SchemeGroupVersion.WithKind("SelfSubjectReview"), "selfsubjectreviews", false, false, (*Server).reviewSelf},
		{authenticationv1.SchemeGroupVersion.WithKind("TokenReview"), "tokenreviews", false, false, (*Server).reviewToken},
		{authorizationv1.SchemeGroupVersion.WithKind("LocalSubjectAccessReview"), "localsubjectaccessreviews", true, false, (*Server).reviewLocalAccess},
		{authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectAccessReview"), "selfsubjectaccessreviews", false, false, (*Server).reviewOwnAccess},
		{authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectRulesReview"), "selfsubjectrulesreviews", false, false, (*Server).reviewOwnRules},
		{authorizationv1.SchemeGroupVersion.WithKind("SubjectAccessReview"), "subjectaccessreviews", false, false, (*Server).reviewAccess},
		{custommetricsv1beta2.SchemeGroupVersion.WithKind("MetricValueList"), "", true, true, (*Server).objectMetrics},
		{externalmetricsv1beta1.SchemeGroupVersion.WithKind("ExternalMetricValueList"), "", true, true, (*Server).externalMetrics},
		{metricsv1beta1.SchemeGroupVersion.WithKind("NodeMetrics"), "nodes", false, true, (*Server).nodeUsage},
		{metricsv1beta1.SchemeGroupVersion.WithKind("PodMetrics"), "pods", true, true, (*Server).podUsage},
	}
}

// any tells whether it is each resource of its group.
func (a action) any() bool { return a.resource == "" }

func (a action) gvr() schema.GroupVersionResource {
	return a.gvk.GroupVersion().WithResource(a.resource)
}

// findAction finds the action of a path's resource, nil if it is none.
func findAction(gvr schema.GroupVersionResource) *action {
	all := actions()
	if i := slices.IndexFunc(all, func(a action) bool { return a.gvr() == gvr || a.any() && a.gvk.GroupVersion() == gvr.GroupVersion() }); i >= 0 {
		return &all[i]
	}
	return nil
}

// act serves a request for an action.
func (s *Server) act(w http.ResponseWriter, r *http.Request, t target) error {
	switch {
	case !slices.Contains(t.action.verbs(), t.verb(r.Method)) || t.name != "" && !t.action.reads:
		return notAllowed()
	case t.subresource != "" && !t.action.any():
		return notServed()
	}
	// Only a list may be of all namespaces.
	everywhere := t.action.namespaced && t.action.reads && t.name == ""
	if t.action.namespaced != (t.namespace != "") && !everywhere {
		return notServed()
	}
	if _, err := negotiate(r, true); err != nil {
		return err
	}
	return t.action.serve(s, w, r, t)
}

// readAction reads the body of an action and gives it the kind's name.
func readAction(r *http.Request, t target, into runtime.Object) error {
	b, media, err := readBody(r)
	if err != nil {
		return err
	}
	if err := decodePlain(b, media, into); err != nil {
		return err
	}
	into.GetObjectKind().SetGroupVersionKind(t.action.gvk)
	return nil
}

func (s *Server) answerAction(w http.ResponseWriter, r *http.Request, o runtime.Object) error {
	s.sendPlain(w, r, http.StatusCreated, o)
	return nil
}

// bindNamed serves the old form of a binding, which names its pod in the body.
func (s *Server) bindNamed(w http.ResponseWriter, r *http.Request, t target) error {
	var body corev1.Binding
	if err := readAction(r, t, &body); err != nil {
		return err
	}
	if body.Name == "" {
		return badRequest("metadata.name: Required value: a binding names its pod")
	}
	pod := t
	pod.resource, pod.name = "pods", body.Name
	return s.bindTo(w, r, pod, body)
}

// reviewSelf tells who asks.
func (s *Server) reviewSelf(w http.ResponseWriter, r *http.Request, t target) error {
	var body authenticationv1.SelfSubjectReview
	if err := readAction(r, t, &body); err != nil {
		return err
	}
	u := authz.UserFrom(r.Context())
	body.Status.UserInfo = userInfo(u)
	return s.answerAction(w, r, &body)
}

func (s *Server) reviewAccess(w http.ResponseWriter, r *http.Request, t target) error {
	var body authorizationv1.SubjectAccessReview
	if err := readAction(r, t, &body); err != nil {
		return err
	}
	st, err := s.access(t, body.Spec)
	if err != nil {
		return err
	}
	body.Status = st
	return s.answerAction(w, r, &body)
}

func (s *Server) reviewLocalAccess(w http.ResponseWriter, r *http.Request, t target) error {
	var body authorizationv1.LocalSubjectAccessReview
	if err := readAction(r, t, &body); err != nil {
		return err
	}
	if a := body.Spec.ResourceAttributes; a == nil || a.Namespace != t.namespace {
		return apierrors.NewInvalid(t.action.gvk.GroupKind(), "", field.ErrorList{
			field.Invalid(field.NewPath("spec", "resourceAttributes", "namespace"), a, "must match the namespace of the request")})
	}
	st, err := s.access(t, body.Spec)
	if err != nil {
		return err
	}
	body.Status = st
	return s.answerAction(w, r, &body)
}

func (s *Server) reviewOwnAccess(w http.ResponseWriter, r *http.Request, t target) error {
	var body authorizationv1.SelfSubjectAccessReview
	if err := readAction(r, t, &body); err != nil {
		return err
	}
	u := authz.UserFrom(r.Context())
	st, err := s.access(t, authorizationv1.SubjectAccessReviewSpec{User: u.Name, Groups: u.Groups,
		ResourceAttributes: body.Spec.ResourceAttributes, NonResourceAttributes: body.Spec.NonResourceAttributes})
	if err != nil {
		return err
	}
	body.Status = st
	return s.answerAction(w, r, &body)
}

// access asks authz what a review asks.
func (s *Server) access(t target, spec authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
	path, faults := field.NewPath("spec"), field.ErrorList{}
	switch {
	case spec.ResourceAttributes != nil && spec.NonResourceAttributes != nil:
		faults = append(faults, field.Invalid(path.Child("nonResourceAttributes"), spec.NonResourceAttributes, "cannot be specified in combination with resourceAttributes"))
	case spec.ResourceAttributes == nil && spec.NonResourceAttributes == nil:
		faults = append(faults, field.Invalid(path.Child("resourceAttributes"), spec.NonResourceAttributes, "exactly one of nonResourceAttributes or resourceAttributes must be specified"))
	}
	if spec.User == "" && len(spec.Groups) == 0 {
		faults = append(faults, field.Invalid(path.Child("user"), spec.User, "at least one of user or group must be specified"))
	}
	if len(faults) > 0 {
		return authorizationv1.SubjectAccessReviewStatus{}, apierrors.NewInvalid(t.action.gvk.GroupKind(), "", faults)
	}
	a := authz.Attributes{User: authz.User{Name: spec.User, Groups: spec.Groups}}
	if ra := spec.ResourceAttributes; ra != nil {
		a.Verb, a.Group, a.Resource, a.Subresource, a.Namespace, a.Name = ra.Verb, ra.Group, ra.Resource, ra.Subresource, ra.Namespace, ra.Name
	} else {
		a.Verb, a.Path = spec.NonResourceAttributes.Verb, spec.NonResourceAttributes.Path
	}
	d := authz.Authorize(a, s.cfg.Store.View().Get)
	if !d.Allowed {
		return authorizationv1.SubjectAccessReviewStatus{}, nil // that nobody allows it is no reason: kubectl would print it behind its "no"
	}
	return authorizationv1.SubjectAccessReviewStatus{Allowed: true, Reason: d.Reason}, nil
}

// reviewOwnRules lists what the asker may do, as far as it can be said without knowing the object.
func (s *Server) reviewOwnRules(w http.ResponseWriter, r *http.Request, t target) error {
	var body authorizationv1.SelfSubjectRulesReview
	if err := readAction(r, t, &body); err != nil {
		return err
	}
	if body.Spec.Namespace == "" {
		return badRequest("no namespace on request")
	}
	u := authz.UserFrom(r.Context())
	var own []authorizationv1.ResourceRule
	for _, a := range actions() {
		if authz.IsSelfReview(a.gvk.Group, a.resource) {
			own = append(own, authorizationv1.ResourceRule{Verbs: []string{"create"}, APIGroups: []string{a.gvk.Group}, Resources: []string{a.resource}})
		}
	}
	body.Status = authorizationv1.SubjectRulesReviewStatus{
		Incomplete:       !u.In(authz.GroupMasters),
		ResourceRules:    own,
		NonResourceRules: []authorizationv1.NonResourceRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version"}}},
	}
	if u.In(authz.GroupMasters) {
		all := []string{"*"}
		body.Status.ResourceRules = append(body.Status.ResourceRules, authorizationv1.ResourceRule{Verbs: all, APIGroups: all, Resources: all})
		body.Status.NonResourceRules = append(body.Status.NonResourceRules, authorizationv1.NonResourceRule{Verbs: all, NonResourceURLs: all})
	}
	return s.answerAction(w, r, &body)
}
