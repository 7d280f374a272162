package clients

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// quiet gives controller-runtime the log that it asks for.
func quiet() { log.SetLogger(logr.Discard()) }

// labeller does what the example of controller-runtime does, to replica sets: it gives them a label. It counts their pods in a config map of
// its own as well.
type labeller struct {
	client.Client
	events events.EventRecorder
}

// Reconcile implements reconcile.Reconciler.
func (l *labeller) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var rs appsv1.ReplicaSet
	if err := l.Get(ctx, req.NamespacedName, &rs); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if rs.Labels["hello"] != "world" {
		rs.Labels["hello"] = "world"
		if err := l.Update(ctx, &rs); err != nil {
			return ctrl.Result{}, err
		}
		l.events.Eventf(&rs, nil, corev1.EventTypeNormal, "Labelled", "Label", "labelled %s", rs.Name)
	}
	var pods corev1.PodList
	if err := l.List(ctx, &pods, client.InNamespace(rs.Namespace), client.MatchingFields{"owner": rs.Name}); err != nil {
		return ctrl.Result{}, err
	}
	count := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: rs.Namespace, Name: rs.Name}}
	_, err := controllerutil.CreateOrUpdate(ctx, l.Client, count, func() error {
		count.Data = map[string]string{"pods": fmt.Sprint(len(pods.Items))}
		return controllerutil.SetControllerReference(&rs, count, l.Scheme())
	})
	return ctrl.Result{}, err
}

// TestControllerRuntime runs a manager with a controller, in the manner of the library's example; it has leader election, an index, owned
// objects and events. The example's webhooks are left out: they come with a later version of ours.
func TestControllerRuntime(t *testing.T) {
	t.Parallel()
	quiet()
	ns, ctx := namespace(t), t.Context()
	mgr, err := manager.New(config(t), manager.Options{
		Cache: cache.Options{DefaultNamespaces: map[string]cache.Config{ns: {}}}, Metrics: server.Options{BindAddress: "0"},
		LeaderElection: true, LeaderElectionID: "labeller", LeaderElectionNamespace: ns,
	})
	must(t, err)
	must(t, mgr.GetFieldIndexer().IndexField(ctx, &corev1.Pod{}, "owner", func(o client.Object) []string {
		if owner := metav1.GetControllerOf(o); owner != nil && owner.Kind == "ReplicaSet" {
			return []string{owner.Name}
		}
		return nil
	}))
	must(t, ctrl.NewControllerManagedBy(mgr).Named("labeller").For(&appsv1.ReplicaSet{}).Owns(&corev1.Pod{}).Owns(&corev1.ConfigMap{}).
		Complete(&labeller{mgr.GetClient(), mgr.GetEventRecorder("labeller")}))
	running, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := mgr.Start(running); err != nil {
			t.Error(err)
		}
	})
	defer wg.Wait()
	defer stop()

	c := clientset(t)
	_, err = c.AppsV1().Deployments(ns).Create(ctx, deployment("web", 2), metav1.CreateOptions{})
	must(t, err)
	var rs appsv1.ReplicaSet
	eventually(t, "the replica set is labelled and counted", func() error {
		list, err := c.AppsV1().ReplicaSets(ns).List(ctx, metav1.ListOptions{LabelSelector: "hello=world"})
		if err != nil || len(list.Items) != 1 {
			return fmt.Errorf("%d replica sets are labelled: %w", len(list.Items), err)
		}
		rs = list.Items[0]
		count, err := c.CoreV1().ConfigMaps(ns).Get(ctx, rs.Name, metav1.GetOptions{})
		if err == nil && count.Data["pods"] != "2" {
			err = fmt.Errorf("counted %v", count.Data)
		}
		return err
	})
	eventually(t, "an event", func() error {
		list, err := c.EventsV1().Events(ns).List(ctx, metav1.ListOptions{FieldSelector: "reason=Labelled,regarding.name=" + rs.Name})
		if err == nil && len(list.Items) != 1 {
			err = fmt.Errorf("%d events", len(list.Items))
		}
		return err
	})
	// What it owns is made again, and goes with its owner.
	must(t, c.CoreV1().ConfigMaps(ns).Delete(ctx, rs.Name, metav1.DeleteOptions{}))
	eventually(t, "the count is made again", func() error {
		_, err := c.CoreV1().ConfigMaps(ns).Get(ctx, rs.Name, metav1.GetOptions{})
		return err
	})
	must(t, c.AppsV1().Deployments(ns).Delete(ctx, "web", metav1.DeleteOptions{}))
	eventually(t, "the count goes with its owner", func() error {
		_, err := c.CoreV1().ConfigMaps(ns).Get(ctx, rs.Name, metav1.GetOptions{})
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is still there: %v", err)
		}
		return nil
	})
}

// TestEnvtest is a suite as operators have it: envtest finds the cluster, a client of controller-runtime does the rest.
func TestEnvtest(t *testing.T) {
	t.Parallel()
	quiet()
	ctx := t.Context()
	env := &envtest.Environment{UseExistingCluster: ptr.To(true), Config: config(t)}
	cfg, err := env.Start()
	must(t, err)
	defer func() { must(t, env.Stop()) }()
	c, err := client.New(cfg, client.Options{})
	must(t, err)
	ns := namespace(t)
	key := func(name string) client.ObjectKey { return client.ObjectKey{Namespace: ns, Name: name} }

	web := deployment("web", 1)
	web.Namespace = ns
	must(t, c.Create(ctx, web))
	if err := c.Create(ctx, web.DeepCopy()); err == nil {
		t.Error("an object with a resourceVersion was created")
	}
	rolledOut(t, ns, "web", 1)
	must(t, c.Get(ctx, key("web"), web))
	was := web.DeepCopy()
	web.Spec.Replicas = ptr.To[int32](2)
	must(t, c.Patch(ctx, web, client.MergeFrom(was)))
	was = web.DeepCopy()
	web.Labels["tier"] = "x"
	if err := c.Patch(ctx, web, client.MergeFromWithOptions(was, client.MergeFromWithOptimisticLock{})); err != nil && !apierrors.IsConflict(err) {
		t.Error(err)
	}
	rolledOut(t, ns, "web", 2)
	must(t, c.Get(ctx, key("web"), web))
	was = web.DeepCopy()
	web.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", Value: "1"}}
	must(t, c.Patch(ctx, web, client.StrategicMergeFrom(was)))
	rolledOut(t, ns, "web", 2)

	scale := &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: 1}}
	must(t, c.SubResource("scale").Update(ctx, web, client.WithSubResourceBody(scale)))
	rolledOut(t, ns, "web", 1)
	must(t, c.Apply(ctx, corev1ac.ConfigMap("applied", ns).WithData(map[string]string{"a": "1"}), client.FieldOwner("suite")))
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "robot"}}
	must(t, c.Create(ctx, account))
	token := &authenticationv1.TokenRequest{}
	must(t, c.SubResource("token").Create(ctx, account, token))
	if token.Status.Token == "" {
		t.Error("no token")
	}

	var pods corev1.PodList
	must(t, c.List(ctx, &pods, client.InNamespace(ns), client.MatchingLabels{"app": "web"}, client.MatchingFields{"status.phase": "Running"}))
	if len(pods.Items) == 0 {
		t.Fatal("no pods")
	}
	must(t, c.SubResource("eviction").Create(ctx, &pods.Items[0], &policyv1.Eviction{DeleteOptions: &metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}}))
	eventually(t, "the evicted pod is gone", func() error {
		err := c.Get(ctx, client.ObjectKeyFromObject(&pods.Items[0]), &corev1.Pod{})
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is still there: %v", err)
		}
		return nil
	})
	must(t, c.DeleteAllOf(ctx, &corev1.ConfigMap{}, client.InNamespace(ns)))
	var maps corev1.ConfigMapList
	must(t, c.List(ctx, &maps, client.InNamespace(ns)))
	for _, left := range maps.Items {
		if left.Name != "kube-root-ca.crt" { // which comes back
			t.Errorf("config map %s is left", left.Name)
		}
	}
	must(t, c.Delete(ctx, web, client.PropagationPolicy(metav1.DeletePropagationForeground)))
	eventually(t, "all is gone", func() error {
		if err := c.Get(ctx, key("web"), web); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the deployment is still there: %v", err)
		}
		return nil
	})
}
