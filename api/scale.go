package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"reconcile/api/table"
	"reconcile/object"
)

// The scale subresource shows any kind with spec.replicas, spec.selector and status.replicas as an autoscaling/v1 Scale.

// replicasField is spec.replicas of an object of any kind that scales, by the names of its Go fields.
func replicasField(o object.Object) (reflect.Value, error) {
	f := reflect.ValueOf(o).Elem().FieldByName("Spec").FieldByName("Replicas")
	if !f.IsValid() || f.Type() != reflect.TypeFor[*int32]() {
		return f, fmt.Errorf("%T has no spec.replicas", o)
	}
	return f, nil
}

func scaleOf(o object.Object) (*autoscalingv1.Scale, error) {
	f, err := replicasField(o)
	if err != nil {
		return nil, err
	}
	sc := &autoscalingv1.Scale{
		TypeMeta: metav1.TypeMeta{APIVersion: "autoscaling/v1", Kind: "Scale"},
		ObjectMeta: metav1.ObjectMeta{
			Name: o.GetName(), Namespace: o.GetNamespace(), UID: o.GetUID(),
			ResourceVersion: o.GetResourceVersion(), CreationTimestamp: o.GetCreationTimestamp(),
		},
	}
	if n, ok := f.Interface().(*int32); ok && n != nil {
		sc.Spec.Replicas = *n
	}
	v := reflect.ValueOf(o).Elem()
	switch sel := v.FieldByName("Spec").FieldByName("Selector").Interface().(type) {
	case *metav1.LabelSelector:
		if sel != nil {
			sc.Status.Selector = metav1.FormatLabelSelector(sel)
		}
	case map[string]string:
		sc.Status.Selector = labels.SelectorFromSet(sel).String()
	}
	if n := v.FieldByName("Status").FieldByName("Replicas"); n.IsValid() && n.CanInt() {
		sc.Status.Replicas = int32(n.Int())
	}
	return sc, nil
}

// sendScale answers with a scale, as a Table where that is asked for.
func (s *Server) sendScale(w http.ResponseWriter, r *http.Request, sc *autoscalingv1.Scale) error {
	a, err := negotiate(r, true, shapeTable)
	if err != nil {
		return err
	}
	if a.shape != shapeTable {
		s.sendPlain(w, r, http.StatusOK, sc)
		return nil
	}
	meta := metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/" + a.version, Kind: "PartialObjectMetadata"}, ObjectMeta: sc.ObjectMeta}
	b, err := json.Marshal(metav1.Table{
		TypeMeta:          metav1.TypeMeta{APIVersion: "meta.k8s.io/" + a.version, Kind: "Table"},
		ListMeta:          metav1.ListMeta{ResourceVersion: sc.ResourceVersion},
		ColumnDefinitions: table.Scale.Definitions(),
		Rows:              []metav1.TableRow{{Cells: table.Scale.Row(sc, s.cfg.Now()), Object: runtime.RawExtension{Object: &meta}}},
	})
	if err != nil {
		return err
	}
	if b, err = asText(b, a); err != nil {
		return err
	}
	send(w, r, http.StatusOK, a.media, b)
	return nil
}

func (s *Server) getScale(w http.ResponseWriter, r *http.Request, t target) error {
	o, err := s.live(r.Context(), t, t.query.Get("resourceVersion"))
	if err != nil {
		return err
	}
	sc, err := scaleOf(o)
	if err != nil {
		return err
	}
	return s.sendScale(w, r, sc)
}

func (s *Server) updateScale(w http.ResponseWriter, r *http.Request, t target) error {
	b, media, err := readBody(r)
	if err != nil {
		return err
	}
	var body autoscalingv1.Scale
	if err := decodePlain(b, media, &body); err != nil {
		return err
	}
	return s.modifyScale(w, r, t, func(*autoscalingv1.Scale) (*autoscalingv1.Scale, error) { return &body, nil })
}

func (s *Server) patchScale(w http.ResponseWriter, r *http.Request, t target) error {
	if isApply(r) {
		return s.applyScale(w, r, t)
	}
	p, _, err := readPatch(r)
	if err != nil {
		return err
	}
	return s.modifyScale(w, r, t, func(old *autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
		doc, err := json.Marshal(old)
		if err != nil {
			return nil, err
		}
		next := &autoscalingv1.Scale{}
		if _, err := p.onto(doc, next, func(out []byte) ([]error, error) { return nil, json.Unmarshal(out, next) }); err != nil {
			return nil, err
		}
		if next.ResourceVersion == old.ResourceVersion {
			next.ResourceVersion = ""
		}
		return next, nil
	})
}

func (s *Server) modifyScale(w http.ResponseWriter, r *http.Request, t target, f func(*autoscalingv1.Scale) (*autoscalingv1.Scale, error)) error {
	dry, err := dryRun(t.query["dryRun"])
	if err != nil {
		return err
	}
	whole := t
	whole.subresource, whole.via = "", "scale"
	done, err := s.rewrite(w, r, whole, dry, func(old object.Object) (object.Object, error) {
		was, err := scaleOf(old)
		if err != nil {
			return nil, err
		}
		want, err := f(was)
		if err != nil {
			return nil, err
		}
		if want.Spec.Replicas < 0 {
			return nil, apierrors.NewInvalid(autoscalingv1.SchemeGroupVersion.WithKind("Scale").GroupKind(), t.name, field.ErrorList{
				field.Invalid(field.NewPath("spec", "replicas"), want.Spec.Replicas, "must be greater than or equal to 0")})
		}
		next := object.Copy(old)
		field, err := replicasField(next)
		if err != nil {
			return nil, err
		}
		field.Set(reflect.ValueOf(&want.Spec.Replicas))
		next.SetResourceVersion(want.ResourceVersion)
		return next, nil
	})
	if err != nil {
		return err
	}
	sc, err := scaleOf(done.object)
	if err != nil {
		return err
	}
	return s.sendScale(w, r, sc)
}
