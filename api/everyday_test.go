package api_test

import (
	"fmt"
	"regexp"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestEverydayWritesOnTheRealStore holds what users and their controllers write, where a store that only keeps what it is given would say yes: finalizers
// of a namespace, a pod's own file a second time, a load balancer's address and its port for health checks.
func TestEverydayWritesOnTheRealStore(t *testing.T) {
	t.Parallel()
	s := startReal(t)
	c := admin(t, s, true, nil)
	eventually(t, "the preset namespaces", func() bool {
		_, err := typed(t, s, true).CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{})
		return err == nil
	})
	const (
		pod      = `{"metadata":{"name":"p"},"spec":{"serviceAccountName":"default","nodeSelector":{"no":"where"},"containers":[{"name":"c","image":"%s"}]}}`
		balanced = `{"metadata":{"name":"b"},"spec":{"type":"LoadBalancer","externalTrafficPolicy":"Local"%s,"selector":{"a":"b"},"ports":[{"port":80}]}}`
	)
	for _, x := range []struct {
		method, path, media, body string
		code                      int
		want                      string // a regular expression
	}{
		// A namespace's finalizers are what its subresource finalize says, while it lives and when it goes.
		{"POST", "/api/v1/namespaces", "", `{"metadata":{"name":"n"},"spec":{"finalizers":["a.b/c"]}}`, 201, `"finalizers":\["a.b/c","kubernetes"\]`},
		{"PUT", "/api/v1/namespaces/n/finalize", "", `{"metadata":{"name":"n"},"spec":{"finalizers":["d.e/f","kubernetes"]}}`, 200, `"finalizers":\["d.e/f","kubernetes"\]`},
		{"GET", "/api/v1/namespaces/n", "", ``, 200, `"finalizers":\["d.e/f","kubernetes"\]`},
		{"PUT", "/api/v1/namespaces/n", "", `{"metadata":{"name":"n"},"spec":{"finalizers":[]}}`, 200, `"finalizers":\["d.e/f","kubernetes"\]`},
		{"DELETE", "/api/v1/namespaces/n", "", ``, 200, `"phase":"Terminating"`},
		{"PUT", "/api/v1/namespaces/n/finalize", "", `{"metadata":{"name":"n"},"spec":{"finalizers":[]}}`, 200, `"name":"n"`},
		{"GET", "/api/v1/namespaces/n", "", ``, 404, `not found`},

		// The file that made a pod replaces it, with another image too; but for the account, which is filled in when a pod is made and no more (as in Kubernetes).
		{"POST", "pods", "", fmt.Sprintf(pod, "i:1"), 201, `"tolerations":\[.*not-ready`},
		{"PUT", "pods/p", "", fmt.Sprintf(pod, "i:1"), 200, `"tolerations":\[.*not-ready.*unreachable.*"generation":1|"generation":1.*"tolerations":\[.*not-ready.*unreachable`},
		{"PUT", "pods/p", "", fmt.Sprintf(pod, "i:2"), 200, `"image":"i:2"`},
		{"PATCH", "pods/p", mergePatch, `{"spec":{"tolerations":[]}}`, 200, `"tolerations":\[.*not-ready.*unreachable`},

		// A service of LoadBalancer whose traffic stays on the node has a port for health checks.
		{"POST", "services", "", fmt.Sprintf(balanced, ""), 201, `"healthCheckNodePort":3\d{4}\b`},
		{"PUT", "services/b", "", fmt.Sprintf(balanced, ""), 200, `"healthCheckNodePort":3\d{4}\b`},
		{"PUT", "services/b", "", fmt.Sprintf(balanced, `,"healthCheckNodePort":30001`), 422, `spec.healthCheckNodePort: Forbidden: field is immutable`},
		{"PATCH", "services/b/status", mergePatch, `{"status":{"loadBalancer":{"ingress":[{"ip":"1.2.3.4"}]}}}`, 200, `"ipMode":"VIP"`},
		{"PATCH", "services/b", mergePatch, `{"spec":{"externalTrafficPolicy":"Cluster"}}`, 200, `"externalTrafficPolicy":"Cluster"[^h]*"internalTrafficPolicy"`},
		{"PATCH", "services/b", mergePatch, `{"spec":{"externalTrafficPolicy":"Local","healthCheckNodePort":30001}}`, 200, `"healthCheckNodePort":30001`},
		{"PUT", "services/b", "", fmt.Sprintf(balanced, ""), 200, `"healthCheckNodePort":30001`},
		{"POST", "services", "", `{"metadata":{"name":"other"},"spec":{"type":"NodePort","ports":[{"port":80,"nodePort":30001}]}}`, 422, `provided port is already allocated`},
		{"PATCH", "services/b", mergePatch, `{"spec":{"type":"ClusterIP"}}`, 200, `"status":\{"loadBalancer":\{\}\}`},
		{"PATCH", "services/b/status", mergePatch, `{"status":{"loadBalancer":{"ingress":[{"ip":"1.2.3.4"}]}}}`, 422, `may only be used when`},
		{"POST", "services", "", `{"metadata":{"name":"plain"},"spec":{"healthCheckNodePort":30002,"ports":[{"port":80}]}}`, 422, `spec.healthCheckNodePort: Invalid value: 30002: may only be set when`},

		// The cluster has IPv4 addresses, one for a service.
		{"POST", "services", "", `{"metadata":{"name":"six"},"spec":{"ipFamilies":["IPv6"],"ports":[{"port":80}]}}`, 422, `spec.ipFamilies\[0\]: Invalid value: \\"IPv6\\": not configured on this cluster`},
		{"POST", "services", "", `{"metadata":{"name":"six"},"spec":{"clusterIP":"fd00::1","ports":[{"port":80}]}}`, 422, `spec.clusterIPs\[0\]: Invalid value: .*IPv6 is not configured on this cluster`},
		{"POST", "services", "", `{"metadata":{"name":"two"},"spec":{"ipFamilyPolicy":"RequireDualStack","ports":[{"port":80}]}}`, 422, `spec.ipFamilyPolicy: Invalid value: \\"RequireDualStack\\": this cluster is not configured for dual-stack services`},
		{"POST", "services", "", `{"metadata":{"name":"two"},"spec":{"ipFamilyPolicy":"PreferDualStack","ports":[{"port":80}]}}`, 201, `"ipFamilies":\["IPv4"\],"ipFamilyPolicy":"PreferDualStack"`},
		{"PATCH", "services/two", mergePatch, `{"spec":{"ipFamilyPolicy":"RequireDualStack"}}`, 422, `this cluster is not configured for dual-stack services`},
		{"POST", "services", "", `{"metadata":{"name":"free"},"spec":{"clusterIP":"None"}}`, 201, `"ipFamilies":\["IPv4","IPv6"\],"ipFamilyPolicy":"RequireDualStack"`},
		{"PATCH", "services/free", mergePatch, `{"spec":{"selector":{"a":"b"}}}`, 422, `this cluster is not configured for dual-stack services`},
		{"PATCH", "services/free", mergePatch, `{"metadata":{"labels":{"a":"b"}}}`, 200, `"ipFamilies":\["IPv4","IPv6"\]`},
		{"PUT", "services/two", "", `{"metadata":{"name":"two"},"spec":{"clusterIP":"10.96.200.200","ports":[{"port":80}]}}`, 422, `"message":"Service \\"two\\" is invalid: spec.clusterIPs\[0\]: Invalid value: [^;]*may not change once set","reason"`},
		{"PATCH", "services/two", mergePatch, `{"spec":{"clusterIP":"10.96.200.200"}}`, 422, `"message":"Service \\"two\\" is invalid: spec.clusterIPs\[0\]: Invalid value: [^;]*may not change once set","reason"`},
	} {
		code, _, text := asked(t, s, c, x.method, x.path, x.media, x.body)
		if code != x.code || !regexp.MustCompile(x.want).MatchString(text) {
			t.Errorf("%s %s %s:\n%d %s\nwant %d %s", x.method, x.path, x.body, code, text, x.code, x.want)
		}
	}
}
