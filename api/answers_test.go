package api_test

import (
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/api/apitest"
	"reconcile/object"
)

const (
	mergePatch = "application/merge-patch+json"
	jsonPatch  = "application/json-patch+json"
	applyPatch = "application/apply-patch+yaml"
)

// TestAnswers holds single answers that a real kube-apiserver gives (bench/peer/apiserver found that ours were others).
func TestAnswers(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), nil)
	c := admin(t, s, true, nil)
	s.Store.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c", UID: "11111111-2222-3333-4444-555555555555"}, Data: map[string]string{"k": "v"}})
	const otherUID = "99999999-2222-3333-4444-555555555555"
	const service = `{"metadata":{"name":"s"},"spec":{"type":"NodePort","selector":{"a":"b"},"ports":[{"port":80}]}}`
	if code, _, text := asked(t, s, c, "POST", "services", "", service); code != http.StatusCreated {
		t.Fatal(text)
	}
	for _, o := range []object.Object{&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c2"}}, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s"}, Type: corev1.SecretTypeOpaque}} {
		s.Store.Put(o)
	}
	const leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
	for _, x := range []exchange{
		{"POST", "configmaps?dryRun=Some", "", `{"metadata":{"name":"a"}}`, 422, `CreateOptions.meta.k8s.io \\"\\" is invalid: dryRun: Unsupported value: \[\\"Some\\"\]: supported values: \\"All\\"`},
		{"PUT", "configmaps/c?fieldValidation=Other", "", `{"metadata":{"name":"c"}}`, 422, `UpdateOptions.meta.k8s.io \\"\\" is invalid: fieldValidation: Unsupported value: \\"Other\\"`},
		{"PATCH", "configmaps/c?force=true", mergePatch, `{}`, 422, `PatchOptions.meta.k8s.io \\"\\" is invalid: force: Forbidden`},
		{"POST", "configmaps?fieldManager=%01", "", `{"metadata":{"name":"a"}}`, 422, `CreateOptions.meta.k8s.io \\"\\" is invalid: fieldManager: Invalid value`},
		{"PUT", "configmaps/c", "", `{"metadata":{"name":"c","uid":"` + otherUID + `"}}`, 409, `Precondition failed: UID in precondition: 9{8}`},
		{"PATCH", "configmaps/c", mergePatch, `{"metadata":{"uid":"` + otherUID + `"}}`, 422, `metadata.uid: Invalid value: .*field is immutable`},
		{"PUT", "configmaps/c", "", `{"metadata":{"name":"c","deletionTimestamp":"2031-01-01T00:00:00Z"}}`, 422, `metadata.deletionTimestamp: Invalid value: .*field is immutable`},
		{"PUT", "configmaps/c", "", `{"data":{}}`, 400, `the name of the object \(c based on URL\) was undeterminable: name must be provided`},
		{"PATCH", "configmaps/c", mergePatch, `{"metadata":{"namespace":"b"}}`, 400, `the namespace of the provided object does not match the namespace sent on the request`},
		{"PATCH", "configmaps/c", mergePatch, `{"data":{"k":5}}`, 422, `"field":"patch"`},
		{"PATCH", "configmaps/c?fieldValidation=Strict", mergePatch, `{"unknown":5}`, 422, `strict decoding error: unknown field`},
		{"PATCH", "configmaps/c?fieldValidation=Strict", jsonPatch, `[{"op":"add","path":"/data/k","value":"x","foo":1}]`, 422, `"field":"patch"`},
		{"PATCH", "configmaps/c?fieldManager=m", applyPatch, `{"metadata":{"name":"c"}}`, 400, `invalid object type: /, Kind=`},
		{"PATCH", "configmaps/new?fieldManager=m&dryRun=All", applyPatch, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"new","resourceVersion":"5"}}`, 201, ``},
		{"DELETE", "configmaps/c", "", `{"kind":"ConfigMap","apiVersion":"v1"}`, 400, `does not match the expected kind`},
		{"DELETE", "configmaps/c", "", `{"preconditions":{"uid":"` + otherUID + `"}}`, 409, `Operation cannot be fulfilled on ConfigMap \\"c\\": the UID in the precondition`},
		{"DELETE", "configmaps/c", "", `{"preconditions":{"resourceVersion":"1"}}`, 409, `the ResourceVersion in the precondition \(1\) does not match`},
		{"POST", "configmaps/c", "", `{}`, 405, `"the server does not allow this method on the requested resource","reason":"MethodNotAllowed","details":\{\}`},
		{"GET", "configmaps/c/status", "", ``, 404, `"the server could not find the requested resource","reason":"NotFound","details":\{\}`},
		{"GET", "/apis/nowhere/v1/things", "", ``, 404, `^404 page not found`},
		{"GET", "/apis/apps/v7/things", "", ``, 404, `"the server could not find the requested resource"`},
		{"GET", "configmaps?limit=-1", "", ``, 200, `^\{"kind":"ConfigMapList","apiVersion":"v1","metadata":\{[^}]*\},"items":\[\{"metadata":\{"name":"c"`},
		{"GET", "configmaps?fieldSelector=data.k%3Db", "", ``, 400, `\\"data.k\\" is not a known field selector: only \\"metadata.name\\", \\"metadata.namespace\\"`},
		{"GET", "configmaps?resourceVersion=x", "", ``, 400, `invalid resource version: resourceVersion: Invalid value: \\"x\\": strconv.ParseUint`},
		{"POST", "configmaps", "", `nonsense`, 400, `the object provided is unrecognized \(must be of type ConfigMap\): couldn't get version/kind; json parse error: .* \(6e6f6e73656e7365\)`},
		{"POST", "pods", "", `{"metadata":{"name":"privileged"},"spec":{"containers":[{"name":"c","image":"i","securityContext":{"privileged":true}}]}}`, 201, `"privileged":true`},
		{"POST", "pods/p/binding", "", `{"target":{"name":"n"}}`, 400, `name in URL does not match name in Binding object`},
		{"PUT", leases + "/l", "", `{"metadata":{"name":"l","uid":"` + otherUID + `"},"spec":{"holderIdentity":"x"}}`, 409, `Precondition failed: UID in precondition: 9.*, UID in object meta: "`},
		{"PUT", leases + "/l", "", `{"metadata":{"name":"l"},"spec":{"holderIdentity":"x"}}`, 201, `"holderIdentity":"x"`},
		{"PUT", leases + "/l", "", `{"metadata":{"name":"l"},"spec":{"holderIdentity":"y"}}`, 422, `metadata.resourceVersion: Invalid value: 0: must be specified for an update`},
		{"PATCH", leases + "/l", mergePatch, `{"metadata":{"resourceVersion":null},"spec":{"holderIdentity":"y"}}`, 422, `metadata.resourceVersion`},
		{"PATCH", leases + "/l", mergePatch, `{"spec":{"holderIdentity":"y"}}`, 200, `"holderIdentity":"y"`},
		{"PUT", "configmaps/none", "", `{"metadata":{"name":"none"}}`, 404, ``},
		{"HEAD", "configmaps/c", "", ``, 405, ``},
		{"POST", "/apis/events.k8s.io/v1/namespaces/default/events", "", `{"metadata":{"name":"e"},"regarding":{"kind":"Pod","name":"p","namespace":"default"},"reason":"R"}`, 422, `eventTime: Required value`},
		{"POST", "events", "", `{"metadata":{"name":"e"},"involvedObject":{"kind":"Pod","name":"p","namespace":"default"},"reason":"R"}`, 201, ``},
		{"POST", "pods/privileged/binding", "", `{"metadata":{"name":"privileged"},"target":{"kind":"Pod","name":"n"}}`, 422, `target.kind: Unsupported value`},
		{"DELETE", "configmaps/c", "", `nonsense`, 400, `couldn't get version/kind; json parse error: `},
		{"POST", "configmaps", "application/vnd.kubernetes.protobuf", `xx`, 400, `the object provided is unrecognized \(must be of type ConfigMap\): provided data does not appear to be a protobuf message`},
		{"PATCH", "configmaps/c?fieldManager=m&fieldValidation=Strict", applyPatch, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  x: y\n  x: z", 400, `error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors`},
		{"POST", "services", "", `{"metadata":{"name":"h"},"spec":{"clusterIP":"None","selector":{"a":"b"}}}`, 201, `"f:clusterIP":\{\},"f:internalTrafficPolicy"`},
		{"POST", "/apis/apps/v1/namespaces/default/daemonsets", "", `{"metadata":{"name":"d"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`, 201, `"f:deprecated.daemonset.template.generation"`},
		{"PATCH", "secrets/s?dryRun=All", jsonPatch, `[{"op":"add","path":"/data","value":{"k":null}}]`, 200, `"data":\{"k":""\}`},
		{"GET", "configmaps?limit=1&resourceVersion=0", "", ``, 200, `"items":\[\{"metadata":\{"name":"c".*\{"metadata":\{"name":"c2"`},
		{"GET", "configmaps?limit=1", "", ``, 200, `"continue":`},
		{"POST", "configmaps?dryRun=All", "", `{"metadata":{"name":"old","managedFields":[{"manager":"m","operation":"Update","apiVersion":"v1beta1","fieldsType":"FieldsV1","fieldsV1":{"f:data":{"f:k":{}}}}]},"data":{"k":"v"}}`, 201, `"name":"old"`},
		{"GET", "configmaps?continue=nonsense-x&resourceVersion=5", "", ``, 400, `invalid continue token: continue key is not valid`},
		{"GET", "configmaps?watch=true&timeoutSeconds=1&continue=x", "", ``, 422, `resourceVersionMatch is forbidden when continue is provided`},
		{"PATCH", "services/s", mergePatch, `{"spec":{"type":"ClusterIP"}}`, 200, `"type":"ClusterIP"`},
		{"DELETE", "services/s", "", ``, 200, `"kind":"Service"`},
		{"GET", "configmaps?watch=true&timeoutSeconds=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan", "", ``, 200, `^$`},
		{"GET", "configmaps?watch=true&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion=99999", "", ``, 200, `^\{"type":"ERROR".*ResourceVersionTooLarge`},
	} {
		x.hold(t, s, c)
	}
}

// TestErrorsInOtherForms gives who asks for YAML or protobuf errors in them too.
func TestErrorsInOtherForms(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), nil)
	c := admin(t, s, true, nil)
	for media, begin := range map[string]string{"application/yaml": "apiVersion: v1\ncode: 404\n", "application/vnd.kubernetes.protobuf": "k8s\x00", "application/json": `{"kind":"Status"`} {
		res, text := answer(t, s, c, http.MethodGet, "configmaps/none", "", map[string]string{"Accept": media})
		if res.StatusCode != http.StatusNotFound || res.Header.Get("Content-Type") != media || !strings.HasPrefix(text, begin) {
			t.Errorf("%s: %s %s %q", media, res.Status, res.Header.Get("Content-Type"), text)
		}
	}
}

// TestShapesOfOtherDocuments: the metadata of a list as that of an object, and the other way round, is refused, and only after what else is wrong.
func TestShapesOfOtherDocuments(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), nil)
	c := admin(t, s, true, nil)
	s.Store.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c", UID: "11111111-2222-3333-4444-555555555555"}})
	for _, x := range []struct {
		path, shape string
		code        int
		want        string
	}{
		{"configmaps/c", "PartialObjectMetadata", 200, `"kind":"PartialObjectMetadata"`},
		{"configmaps/c", "PartialObjectMetadataList", 406, "you requested PartialObjectMetadataList, but the requested object is not a list"},
		{"configmaps", "PartialObjectMetadataList", 200, `"kind":"PartialObjectMetadataList"`},
		{"configmaps", "PartialObjectMetadata", 406, "you requested PartialObjectMetadata, but the requested object is a list"},
		{"configmaps?watch=true&timeoutSeconds=1", "PartialObjectMetadataList", 406, "you requested PartialObjectMetadataList"},
		{"configmaps/none", "PartialObjectMetadataList", 404, "not found"},
		{"configmaps?resourceVersion=x", "PartialObjectMetadata", 400, "invalid resource version"},
		{"configmaps?fieldSelector=metadata.name%3Dnone", "PartialObjectMetadataList", 200, `"items":null`},
	} {
		res, text := answer(t, s, c, http.MethodGet, x.path, "", map[string]string{"Accept": "application/json;as=" + x.shape + ";v=v1;g=meta.k8s.io,application/json"})
		if res.StatusCode != x.code || !strings.Contains(text, x.want) {
			t.Errorf("%s as %s: %d %s, want %d %s", x.path, x.shape, res.StatusCode, text, x.code, x.want)
		}
	}
}
