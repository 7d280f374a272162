package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"
)

// load is one kind of work.
type load struct {
	name string
	ops  int
	// before is done once on each side and not measured.
	before  func(context.Context, *side) error
	measure func(ctx context.Context, s *side, ops int) (result, error)
	// memory names a look at the memory that follows.
	memory string
	// aim is what part of kube-apiserver's processor time ours may take at most, as 1/aim; 0 for none. late is the aim for the 99th percentile.
	aim  float64
	late time.Duration
}

// loads are all loads, in their order. Lists and memory are of so many pods and as many config maps.
func loads(pods int) []load {
	out := []load{
		{name: "create ConfigMap, 1 client", ops: 500, aim: 3, measure: each(0, 1, false, createMap)},
		{name: "create ConfigMap, 32 clients", ops: 4000, aim: 3, measure: each(0, 32, false, createMap)},
		{name: "get ConfigMap, 64 clients", ops: 10000, aim: 3, before: someMaps, measure: each(0, 64, false, getMap)},
		{name: "server-side apply of a ConfigMap, 32 clients", ops: 4000, aim: 3, late: 20 * time.Millisecond, measure: each(0, 32, true, applyMap)},
		{name: fmt.Sprintf("server-side apply of a ConfigMap, %d a second, 32 clients", pace), ops: 5 * pace, late: 20 * time.Millisecond, measure: each(pace, 32, true, applyMap)},
		{name: "update ConfigMap, 32 clients", ops: 3000, before: someMaps, measure: each(0, 32, false, updateMap)},
		{name: "create Pod, 64 clients", ops: 2000, aim: 3, measure: each(0, 64, false, createPod)},
		{name: "watch, 1,000 watchers of one object", ops: 100, aim: 3, before: someMaps, measure: func(ctx context.Context, s *side, ops int) (result, error) {
			return fan(ctx, s, 1000, ops)
		}},
	}
	full := func(ctx context.Context, s *side) error { return fill(ctx, s, pods) }
	const table = "application/json;as=Table;v=v1;g=meta.k8s.io"
	for i, l := range []struct{ name, accept, query string }{
		{"protobuf", "application/vnd.kubernetes.protobuf", "resourceVersion=0"},
		{"protobuf, consistent", "application/vnd.kubernetes.protobuf", ""},
		{"JSON", "application/json", "resourceVersion=0"},
		{"JSON, consistent", "application/json", ""},
		{"Table", table, "resourceVersion=0"},
		{"Table in pages of 500", table, "limit=500"},
	} {
		for _, zip := range []string{"", ", gzip"} {
			one := load{name: fmt.Sprintf("list %d pods, %s%s", pods, l.name, zip), ops: 10, measure: lists(l.accept, l.query, zip != "")}
			if !strings.HasPrefix(l.name, "Table") {
				one.aim = 20
			}
			if i == 0 && zip == "" {
				one.before = full
			}
			if strings.HasPrefix(l.name, "Table in pages") && zip != "" {
				continue
			}
			out = append(out, one)
		}
	}
	out[len(out)-1].memory = fmt.Sprintf("memory, %d pods and config maps, after lists", pods)
	return out
}

// worker is one client at work. n is the number of the operation on its side.
type worker func(ctx context.Context, c *kubernetes.Clientset, n int) error

// pace is how many server-side applies a second are asked for where not as many are as can be: about half of what kube-apiserver can do.
const pace = 400

// each lets clients do operations: one after the other, or so many a second, if a rate is given. Then an operation's time is from when it was due, so
// that one which waits for a client is not counted as a quick one.
func each(rate, clients int, json bool, do worker) func(context.Context, *side, int) (result, error) {
	return func(ctx context.Context, s *side, ops int) (result, error) {
		sets := make([]*kubernetes.Clientset, clients)
		for i := range sets {
			var err error
			if sets[i], err = s.client(json); err != nil {
				return result{}, err
			}
			// A connection is made before it is measured.
			if _, err := sets[i].RESTClient().Get().AbsPath("/version").DoRaw(ctx); err != nil {
				return result{}, err
			}
		}
		took := make([]time.Duration, ops)
		var next atomic.Int64
		base := s.made
		s.made += ops
		r, err := s.measured(ops, func() error {
			g, ctx := errgroup.WithContext(ctx)
			start := time.Now()
			for _, c := range sets {
				g.Go(func() error {
					for {
						n := int(next.Add(1)) - 1
						if n >= ops {
							return nil
						}
						began := time.Now()
						if rate > 0 {
							began = start.Add(time.Duration(n) * time.Second / time.Duration(rate))
							time.Sleep(time.Until(began))
						}
						if err := do(ctx, c, base+n); err != nil {
							return err
						}
						took[n] = time.Since(began)
					}
				})
			}
			return g.Wait()
		})
		r.each = took
		for _, c := range sets {
			if t, ok := c.RESTClient().(interface{ Close() }); ok {
				t.Close()
			}
		}
		return r, err
	}
}

// measured does work of so many operations and tells what it took.
func (s *side) measured(ops int, do func() error) (result, error) {
	before, err := s.cpu()
	if err != nil {
		return result{}, err
	}
	began := time.Now()
	if err := do(); err != nil {
		return result{}, err
	}
	took := time.Since(began)
	after, err := s.cpu()
	return result{ops: ops, took: took, cpu: after - before}, err
}

// content is the 200 bytes of a config map.
var content = strings.Repeat("0123456789", 20)

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}, Data: map[string]string{"key": content}}
}

func createMap(ctx context.Context, c *kubernetes.Clientset, n int) error {
	_, err := c.CoreV1().ConfigMaps(namespace).Create(ctx, configMap(fmt.Sprintf("map-%07d", n)), metav1.CreateOptions{})
	return err
}

// maps is how many config maps are read, updated and applied, in turn.
const maps = 640

// someMaps makes what is read and updated.
func someMaps(ctx context.Context, s *side) error {
	c, err := s.client(false)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i := range maps {
		g.Go(func() error {
			_, err := c.CoreV1().ConfigMaps(namespace).Update(ctx, configMap(fmt.Sprintf("known-%d", i)), metav1.UpdateOptions{})
			if err != nil {
				_, err = c.CoreV1().ConfigMaps(namespace).Create(ctx, configMap(fmt.Sprintf("known-%d", i)), metav1.CreateOptions{})
			}
			return err
		})
	}
	return g.Wait()
}

func getMap(ctx context.Context, c *kubernetes.Clientset, n int) error {
	_, err := c.CoreV1().ConfigMaps(namespace).Get(ctx, fmt.Sprintf("known-%d", n%maps), metav1.GetOptions{})
	return err
}

func updateMap(ctx context.Context, c *kubernetes.Clientset, n int) error {
	m := configMap(fmt.Sprintf("known-%d", n%maps))
	m.Data["n"] = fmt.Sprint(n)
	_, err := c.CoreV1().ConfigMaps(namespace).Update(ctx, m, metav1.UpdateOptions{})
	return err
}

// applyMap changes a value of a config map, or makes one.
func applyMap(ctx context.Context, c *kubernetes.Clientset, n int) error {
	m := applycorev1.ConfigMap(fmt.Sprintf("applied-%d", n%maps), namespace).WithData(map[string]string{"key": content, "n": fmt.Sprint(n)})
	_, err := c.CoreV1().ConfigMaps(namespace).Apply(ctx, m, metav1.ApplyOptions{FieldManager: "bench", Force: true})
	return err
}

// pod is as a deployment's are, but without an owner, which would have to exist. No scheduler takes it.
func pod(n int) *corev1.Pod {
	env := make([]corev1.EnvVar, 8)
	for i := range env {
		env[i] = corev1.EnvVar{Name: fmt.Sprintf("SETTING_%d", i), Value: "the value of a setting"}
	}
	name := fmt.Sprintf("web-6d4cf56db6-%07d", n)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace,
			Labels:      map[string]string{"app.kubernetes.io/name": "web", "app.kubernetes.io/instance": "web", "pod-template-hash": "6d4cf56db6", "tier": "front"},
			Annotations: map[string]string{"prometheus.io/scrape": "true", "prometheus.io/port": "9090"}},
		Spec: corev1.PodSpec{
			SchedulerName: "none",
			Containers: []corev1.Container{{
				Name: "web", Image: "registry.example/team/web:v1.2.3", Env: env, Args: []string{"--listen", ":8080", "--verbose"},
				Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {Name: "metrics", ContainerPort: 9090}},
				Resources: corev1.ResourceRequirements{
					Requests: corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("64Mi")},
					Limits:   corev1.ResourceList{"memory": resource.MustParse("128Mi")},
				},
				VolumeMounts: []corev1.VolumeMount{{Name: "config", MountPath: "/etc/web"}, {Name: "cache", MountPath: "/var/cache"}},
			}},
			Volumes: []corev1.Volume{
				{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "web"}}}},
				{Name: "cache", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			},
		},
	}
}

func createPod(ctx context.Context, c *kubernetes.Clientset, n int) error {
	_, err := c.CoreV1().Pods(namespace).Create(ctx, pod(n), metav1.CreateOptions{})
	return err
}

// fill brings a side to so many pods and so many config maps.
func fill(ctx context.Context, s *side, n int) error {
	c, err := s.client(false)
	if err != nil {
		return err
	}
	for _, k := range []struct {
		path string
		make worker
	}{{"pods", createPod}, {"configmaps", createMap}} {
		b, err := c.CoreV1().RESTClient().Get().Namespace(namespace).Resource(k.path).SetHeader("Accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io").DoRaw(ctx)
		if err != nil {
			return err
		}
		there := bytes.Count(b, []byte(`"uid":`))
		if there > n {
			if err := c.CoreV1().RESTClient().Delete().Namespace(namespace).Resource(k.path).Do(ctx).Error(); err != nil {
				return err
			}
			there = 0
		}
		if _, err := each(0, 32, false, k.make)(ctx, s, n-there); err != nil {
			return err
		}
	}
	return nil
}

// lists reads whole lists of the pods.
func lists(accept, query string, zip bool) func(context.Context, *side, int) (result, error) {
	return func(ctx context.Context, s *side, ops int) (result, error) {
		c, err := s.client(false)
		if err != nil {
			return result{}, err
		}
		encoding := "identity"
		if zip {
			encoding = "gzip"
		}
		var size int64
		one := func() error {
			next := ""
			for {
				req := c.CoreV1().RESTClient().Get().AbsPath("/api/v1/namespaces/"+namespace+"/pods").SetHeader("Accept", accept).SetHeader("Accept-Encoding", encoding)
				if name, value, ok := strings.Cut(query, "="); ok {
					req = req.Param(name, value)
				}
				if next != "" {
					req = req.Param("continue", next)
				}
				body, err := req.Stream(ctx)
				if err != nil {
					return err
				}
				if !strings.Contains(query, "limit") {
					size, err = io.Copy(io.Discard, body)
					return errors.Join(err, body.Close())
				}
				b, err := io.ReadAll(body)
				if err := errors.Join(err, body.Close()); err != nil {
					return err
				}
				size += int64(len(b))
				if next = token(b); next == "" {
					return nil
				}
			}
		}
		// What is kept for lists is warm, as it is on a server that has been asked before.
		if err := one(); err != nil {
			return result{}, err
		}
		took := make([]time.Duration, 0, ops)
		r, err := s.measured(ops, func() error {
			for range ops {
				size = 0
				began := time.Now()
				if err := one(); err != nil {
					return err
				}
				took = append(took, time.Since(began))
			}
			return nil
		})
		r.each, r.note = took, fmt.Sprintf("%.1f MB", float64(size)/1e6)
		return r, err
	}
}

// token finds the continue token in a page.
func token(page []byte) string {
	_, rest, ok := bytes.Cut(page[:min(len(page), 4096)], []byte(`"continue":"`))
	if !ok {
		return ""
	}
	t, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(t)
}
