package api

import (
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/admission"
	"reconcile/object"
	"reconcile/sequencer"
)

// bind serves pods/binding: it binds a pod to a node.
func (s *Server) bind(w http.ResponseWriter, r *http.Request, t target) error {
	b, media, err := readBody(r)
	if err != nil {
		return err
	}
	var body corev1.Binding
	if err := decodePlain(b, media, &body); err != nil {
		return err
	}
	return s.bindTo(w, r, t, body)
}

// bindTo binds the pod of a target as a binding says.
func (s *Server) bindTo(w http.ResponseWriter, r *http.Request, t target, body corev1.Binding) error {
	if body.Name != t.name {
		return badRequest("name in URL does not match name in Binding object")
	}
	if err := admission.CheckBinding(&body); err != nil {
		return err
	}
	dry, err := dryRun(t.query["dryRun"])
	if err != nil {
		return err
	}
	old, err := s.live(r.Context(), t, "")
	if err != nil {
		return err
	}
	pod, ok := object.Copy(old).(*corev1.Pod)
	if !ok {
		return apierrors.NewMethodNotSupported(t.groupResource(), "bind")
	}
	if body.UID != "" && body.UID != pod.UID {
		return apierrors.NewConflict(t.groupResource(), t.name, fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", body.UID, pod.UID))
	}
	if err := admission.Bind(pod, &body, s.cfg.Now()); err != nil {
		return err
	}
	_, err = s.store(r, sequencer.Op{
		Verb: sequencer.Update, Subresource: "binding", Object: pod, UID: string(pod.UID), ResourceVersion: pod.ResourceVersion,
	}, dry)
	if err != nil {
		return err
	}
	s.sendPlain(w, r, http.StatusCreated, success())
	return nil
}

func success() *metav1.Status {
	return &metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess, Code: http.StatusCreated}
}
