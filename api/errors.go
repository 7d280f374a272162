package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/authz"
)

// statusOf turns any error into the Status that Kubernetes would send.
func statusOf(err error) *metav1.Status {
	var known apierrors.APIStatus
	var out metav1.Status
	switch {
	case errors.As(err, &known):
		out = known.Status()
	case errors.Is(err, context.DeadlineExceeded):
		// Whether a write was committed is not known, so the client is not told to try again (no Retry-After).
		out = apierrors.NewTimeoutError("the request did not end in time, and its outcome is not known: "+err.Error(), 0).ErrStatus
	default:
		out = metav1.Status{Message: err.Error()} // no reason, as in Kubernetes
	}
	out.Kind, out.APIVersion = "Status", "v1"
	if out.Code == 0 {
		out.Code = http.StatusInternalServerError
	}
	if out.Status == "" {
		out.Status = metav1.StatusFailure
	}
	return &out
}

// writeError sends an error as a Status, in JSON where the client wants something that a Status has no form of.
func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		// The client has gone; nobody reads an answer.
		return
	}
	st := statusOf(err)
	if st.Code >= 500 {
		s.cfg.Log.Warn("request failed", "method", r.Method, "path", r.URL.Path, "code", st.Code, "err", err)
	}
	if st.Details != nil && st.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(st.Details.RetryAfterSeconds)))
	}
	if st.Code == http.StatusForbidden {
		w.Header().Set("X-Content-Type-Options", "nosniff") // the message has words of the request in it
	}
	a, nerr := negotiate(r, true)
	if nerr != nil || a.media == mediaJSON {
		writeStatus(w, st)
		return
	}
	if err := writeStatusAs(w, st, a); err != nil {
		writeStatus(w, st)
	}
}

// writeStatusAs sends a Status as YAML or protobuf.
func writeStatusAs(w http.ResponseWriter, st *metav1.Status, a accepted) error {
	var b []byte
	if a.media == mediaProto {
		raw, err := st.Marshal()
		if err != nil {
			return err
		}
		b = envelope(metav1.Unversioned.WithKind("Status"), raw)
	} else {
		j, err := json.Marshal(st)
		if err != nil {
			return err
		}
		if b, err = asText(j, a); err != nil {
			return err
		}
	}
	h := w.Header()
	h.Set("Content-Type", a.media)
	h.Set("Cache-Control", "no-cache, private")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(int(st.Code))
	//nolint:errcheck // the client may have gone; there is nobody to tell
	w.Write(b)
	return nil
}

func writeStatus(w http.ResponseWriter, st *metav1.Status) {
	b, err := json.Marshal(st)
	if err != nil {
		http.Error(w, st.Message, int(st.Code))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-cache, private")
	h.Set("Content-Length", strconv.Itoa(len(b)+1))
	w.WriteHeader(int(st.Code))
	//nolint:errcheck // the client may have gone; there is nobody to tell
	w.Write(append(b, '\n'))
}

// notServed is Kubernetes' answer for a resource that it does not know.
func notServed() error {
	return bare(http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource")
}

// notAllowed is Kubernetes' answer for a method that a path does not have.
func notAllowed() error {
	return bare(http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, "the server does not allow this method on the requested resource")
}

// bare is an error about a request of which nothing else is known: Kubernetes gives it empty details.
func bare(code int32, reason metav1.StatusReason, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message, Details: &metav1.StatusDetails{}}}
}

// forbidden is Kubernetes' 403 for a request that authz refused.
func forbidden(a authz.Attributes, reason string) error {
	if a.Resource == "" {
		return &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden,
			Message: "forbidden: " + reason, Details: &metav1.StatusDetails{},
		}}
	}
	t := target{resource: a.Resource}
	t.gv.Group = a.Group
	return apierrors.NewForbidden(t.groupResource(), a.Name, errors.New(reason))
}

func badRequest(format string, args ...any) error {
	return apierrors.NewBadRequest(fmt.Sprintf(format, args...))
}

func notAcceptable(offered ...string) error {
	return statusError(http.StatusNotAcceptable, metav1.StatusReasonNotAcceptable,
		fmt.Sprintf("only the following media types are accepted: %s", join(offered)))
}

func unsupportedMedia(got string, offered ...string) error {
	return statusError(http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType,
		fmt.Sprintf("the body of the request was in an unknown format - accepted media types include: %s (got %q)", join(offered), got))
}

func statusError(code int32, reason metav1.StatusReason, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message}}
}

func join(list []string) string {
	out := ""
	for i, s := range list {
		if i > 0 {
			out += ", "
		}
		out += s
	}
	return out
}
