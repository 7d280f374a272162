package admission

import (
	"encoding/base64"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"reconcile/object"
)

// mapTo makes the typed object of kind k that a JSON tree describes.
func mapTo(k object.Kind, m map[string]any) (object.Object, error) {
	o := k.New()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(m, o); err != nil {
		return nil, err
	}
	return o, nil
}

// foldSecret moves a Secret's stringData into data, as the API server does when it reads one.
func foldSecret(o object.Object) {
	s, ok := o.(*corev1.Secret)
	if !ok || len(s.StringData) == 0 {
		return
	}
	data := make(map[string][]byte, len(s.Data)+len(s.StringData))
	for k, v := range s.Data {
		data[k] = v
	}
	for k, v := range s.StringData {
		data[k] = []byte(v)
	}
	s.Data, s.StringData = data, nil
}

// gitDoc reads a document as its fields are stored: without status, and a Secret's stringData as data.
func gitDoc(k object.Kind, setJSON []byte) (map[string]any, error) {
	doc, err := object.MapOf(setJSON)
	if err != nil {
		return nil, err
	}
	delete(doc, "status")
	plain, ok := doc["stringData"].(map[string]any)
	if k.Resource != "secrets" || !ok {
		return doc, nil
	}
	data, ok := doc["data"].(map[string]any)
	if !ok {
		data = make(map[string]any, len(plain))
	}
	for n, v := range plain {
		if text, ok := v.(string); ok {
			data[n] = base64.StdEncoding.EncodeToString([]byte(text))
		}
	}
	delete(doc, "stringData")
	doc["data"] = data
	return doc, nil
}
