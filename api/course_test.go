package api_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestCourse types what a course about Kubernetes teaches, on the real store with its controllers.
func TestCourse(t *testing.T) {
	t.Parallel()
	s := startReal(t)
	k := newKubectl(t, s)
	c := typed(t, s, false)
	eventually(t, "the preset namespaces", func() bool {
		_, err := c.CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{})
		return err == nil
	})
	web := strings.SplitN(webYAML, "---", 2)[0]
	field := func(path string) string { return k.ok("", "get", "deploy", "web", "-o", "jsonpath={"+path+"}") }

	t.Run("create", func(t *testing.T) {
		dir := t.TempDir()
		for name, text := range map[string]string{"a.txt": "one\n", "b.conf": "x=1\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		k.ok("", "create", "configmap", "folder", "--from-file="+dir)
		has(t, k.ok("", "get", "cm", "folder", "-o", "jsonpath={.data.a\\.txt}{.data.b\\.conf}"), "one\nx=1")
		k.ok("", "create", "configmap", "file", "--from-file=key="+filepath.Join(dir, "a.txt"), "--from-literal=l=2")
		has(t, k.ok("", "get", "cm"), "file", "folder")
		k.ok("", "create", "secret", "docker-registry", "reg", "--docker-username=u", "--docker-password=p", "--docker-server=r.example.com")
		has(t, k.ok("", "get", "secret", "reg"), "kubernetes.io/dockerconfigjson")
		for _, args := range []string{"create job once --image=busybox -- true", "create cronjob nightly --image=busybox --schedule=*/5_*_*_*_* -- true",
			"create quota q --hard=pods=3", "create serviceaccount robot", "create role reader --verb=get --resource=pods", "create rolebinding readers --role=reader --serviceaccount=default:robot",
			"create clusterrole creader --verb=get,list --resource=nodes", "create clusterrolebinding creaders --clusterrole=creader --user=jane", "create poddisruptionbudget pdb --selector=app=web --min-available=1",
			"create priorityclass high --value=100", "create ingress web --class=nginx --rule=web.example.com/*=web:80"} {
			list := strings.Fields(args)
			for i := range list {
				list[i] = strings.ReplaceAll(list[i], "_", " ")
			}
			has(t, k.ok("", list...), "created")
		}
		has(t, k.ok("", "get", "job,cronjob,quota,sa,role,rolebinding,pdb,ingress"), "job.batch/once", "*/5 * * * *", "Role/reader", "web.example.com", "CREATED AT")
		has(t, k.ok("", "describe", "job", "once"), "batch.kubernetes.io/controller-uid")
		has(t, k.ok("", "create", "job", "again", "--from=cronjob/nightly"), "created")
	})
	t.Run("twice", func(t *testing.T) {
		has(t, k.ok(web, "create", "-f", "-"), "created")
		before := field(".metadata.resourceVersion .spec")
		has(t, k.fails(web, "create", "-f", "-"), `Error from server (AlreadyExists): error when creating "STDIN": deployments.apps "web" already exists`)
		if after := field(".metadata.resourceVersion .spec"); after != before {
			t.Errorf("a second create changed %s to %s", before, after)
		}
	})
	t.Run("replace and apply", func(t *testing.T) {
		uid := field(".metadata.uid")
		k.ok("", "annotate", "deploy", "web", "mine=1")
		k.ok("", "patch", "deploy", "web", "-p", `{"spec":{"minReadySeconds":4}}`)
		has(t, k.ok(web, "replace", "-f", "-"), "replaced")
		if got := field(".metadata.uid") + field(".spec.minReadySeconds") + field(".metadata.annotations.mine"); got != uid {
			t.Errorf("after replace: %q, want the UID %s and nothing that was left out", got, uid)
		}
		k.ok("", "annotate", "deploy", "web", "mine=1")
		has(t, k.ok(web, "apply", "-f", "-"), "configured")
		has(t, k.ok(strings.Replace(web, "replicas: 3", "replicas: 2", 1), "apply", "-f", "-"), "configured")
		if got := field(".spec.replicas") + field(".metadata.annotations.mine"); got != "21" {
			t.Errorf("after apply: %q, want replicas 2 and the annotation of somebody else", got)
		}
	})
	t.Run("roll out", func(t *testing.T) {
		k.ok("", "set", "image", "deploy/web", "web=nginx:2")
		k.ok("", "annotate", "deploy/web", "kubernetes.io/change-cause=second", "--overwrite")
		eventually(t, "a second revision", func() bool { return strings.Contains(k.ok("", "rollout", "history", "deploy/web"), "2         second") })
		has(t, k.ok("", "rollout", "history", "deploy/web", "--revision=1"), "nginx:1")
		k.ok("", "rollout", "pause", "deploy/web")
		has(t, k.fails("", "rollout", "undo", "deploy/web"), "paused deployment")
		k.ok("", "rollout", "resume", "deploy/web")
		k.ok("", "rollout", "undo", "deploy/web", "--to-revision=1")
		if got := field(".spec.template.spec.containers[0].image"); got != "nginx:1" {
			t.Errorf("after undo: %s", got)
		}
		k.ok("", "autoscale", "deploy", "web", "--min=1", "--max=3", "--cpu-percent=70")
		has(t, k.ok("", "get", "hpa"), "Deployment/web", "<unknown>/70%")
	})
	t.Run("look and delete", func(t *testing.T) {
		has(t, k.ok("", "get", "all", "-A", "-o", "wide", "--show-labels"), "deployment.apps/web", "replicaset.apps/web-", "horizontalpodautoscaler.autoscaling/web")
		has(t, k.ok("", "get", "pods", "-v=8"), "web-")
		has(t, k.ok("", "explain", "pod.spec.containers.livenessProbe"), "FIELDS:")
		has(t, k.ok("", "delete", "cm", "--all"), `configmap "folder" deleted`)
		has(t, k.ok("", "delete", "deploy,hpa", "web", "--wait=false"), "deleted")
		eventually(t, "no replica sets", func() bool { return strings.Contains(k.ok("", "get", "rs"), "No resources found") })
	})
}
