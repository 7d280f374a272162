package api_test

import (
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/api/apitest"
)

const strategicPatch = "application/strategic-merge-patch+json"

// TestRefusalsShowWhatWasSent: a patch that makes no object is shown in the refusal, and never what it would have changed: that may be a secret.
func TestRefusalsShowWhatWasSent(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), nil)
	c := admin(t, s, true, nil)
	s.Store.Put(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s", UID: "11111111-2222-3333-4444-555555555555"}, Type: corev1.SecretTypeOpaque, Data: map[string][]byte{"password": []byte("hidden")}})
	const deployment = `{"metadata":{"name":"d"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`
	const deployments = "/apis/apps/v1/namespaces/default/deployments"
	if code, _, text := asked(t, s, c, "POST", deployments, "", deployment); code != http.StatusCreated {
		t.Fatal(text)
	}
	for _, x := range []exchange{
		{"PATCH", deployments + "/d", strategicPatch, `{"spec":{"replicas":"x"}}`, 422, `"message":" \\"\\" is invalid: patch: Invalid value: \\"map\[spec:map\[replicas:x\]\]\\": unrecognized type: int32"`},
		{"PATCH", deployments + "/d/scale", strategicPatch, `{"spec":{"replicas":"x"}}`, 422, `map\[spec:map\[replicas:x\]\]\\": unrecognized type: int32`},
		{"PATCH", deployments + "/d/scale", mergePatch, `{"spec":{"replicas":"x"}}`, 422, `"field":"patch"`},
		{"PATCH", "secrets/s", strategicPatch, `{"metadata":{"labels":{"a":1}}}`, 422, `map\[metadata:map\[labels:map\[a:1\]\]\]`},
		{"PATCH", "secrets/s", strategicPatch, `{"data":{"a":1}}`, 422, `"field":"patch"`},
		{"PATCH", "secrets/s?fieldValidation=Strict", strategicPatch, `{"unknown":1}`, 422, `map\[unknown:1\]\\": strict decoding error: unknown field \\"unknown\\"`},
		{"PATCH", "secrets/s?fieldValidation=Strict", strategicPatch, `{"data":{},"data":{},"unknown":1}`, 422, `duplicate field \\"data\\", unknown field \\"unknown\\"`},
		{"PATCH", "secrets/none?fieldValidation=Strict", strategicPatch, `{"data":{},"data":{}}`, 404, `not found`},
		{"PATCH", "secrets/s", mergePatch, `{"data":{"a":1}}`, 422, `"field":"patch"`},
		{"PATCH", "secrets/s?fieldValidation=Strict", mergePatch, `{"unknown":1}`, 422, `strict decoding error: unknown field`},
		{"PATCH", "secrets/s", jsonPatch, `[{"op":"add","path":"/data/a","value":1}]`, 422, `"field":"patch"`},
		// A strategic merge says nothing by apiVersion and kind.
		{"PATCH", "secrets/s", strategicPatch, `{"apiVersion":"v7","kind":"Foo","metadata":{"labels":{"a":"b"}}}`, 200, `"kind":"Secret","apiVersion":"v1".*"a":"b"`},
		{"PATCH", "secrets/s", strategicPatch, `{"immutable":true,"data":{"password":null,"n":"Zm9v"}}`, 200, `"n":"Zm9v"`},

		{"POST", "configmaps", "", `{bad`, 400, `json parse error: .*\(\{bad\)`},
		{"POST", "configmaps", "", `bad`, 400, `\(626164\)`},
		{"DELETE", "/api/v1/namespaces", "", ``, 405, `the server does not allow this method on the requested resource`},
		{"DELETE", "/api/v1/namespaces?labelSelector=a", "", ``, 405, `"reason":"MethodNotAllowed"`},
	} {
		code, text := x.hold(t, s, c)
		if code != http.StatusOK && strings.Contains(text, "aGlkZGVu") {
			t.Errorf("%s %s %s shows the secret: %s", x.method, x.path, x.body, text)
		}
	}
	exchange{"GET", "/api/v1", "", "", 200, `"name":"namespaces","singularName":"namespace","namespaced":false,"kind":"Namespace","verbs":\["create","delete","get"`}.hold(t, s, c)
}
