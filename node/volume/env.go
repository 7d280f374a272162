package volume

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Allocatable is what a container without limits may use, for resourceFieldRef.
type Allocatable struct{ MilliCPU, Memory int64 }

// Env is a container's environment as Kubernetes computes it: envFrom, then env, each value expanded with what stands before it.
// node is for spec.nodeName's host address and base is what every container gets. The order is kept.
func (p Pod) Env(ctx context.Context, c *corev1.Container, base map[string]string, alloc Allocatable) ([]string, map[string]string, error) {
	vals := maps.Clone(base)
	if vals == nil {
		vals = map[string]string{}
	}
	order := slices.Sorted(maps.Keys(vals))
	set := func(k, v string) {
		if _, ok := vals[k]; !ok {
			order = append(order, k)
		}
		vals[k] = v
	}
	for _, f := range c.EnvFrom {
		data, err := p.envFrom(ctx, f)
		if err != nil {
			return nil, nil, err
		}
		for _, k := range slices.Sorted(maps.Keys(data)) {
			set(f.Prefix+k, data[k])
		}
	}
	for _, e := range c.Env {
		v, ok, err := p.envValue(ctx, c, e, vals, alloc)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			set(e.Name, v)
		}
	}
	out := make([]string, 0, len(order))
	for _, k := range order {
		out = append(out, k+"="+vals[k])
	}
	return out, vals, nil
}

func (p Pod) envFrom(ctx context.Context, f corev1.EnvFromSource) (map[string]string, error) {
	out := map[string]string{}
	switch {
	case f.ConfigMapRef != nil:
		cm, err := p.Get.ConfigMap(ctx, p.Pod.Namespace, f.ConfigMapRef.Name)
		if err != nil {
			return nil, missing(err, "configmap", f.ConfigMapRef.Name, f.ConfigMapRef.Optional)
		}
		maps.Copy(out, cm.Data)
	case f.SecretRef != nil:
		s, err := p.Get.Secret(ctx, p.Pod.Namespace, f.SecretRef.Name)
		if err != nil {
			return nil, missing(err, "secret", f.SecretRef.Name, f.SecretRef.Optional)
		}
		for k, v := range s.Data {
			out[k] = string(v)
		}
	}
	return out, nil
}

// envValue returns a variable's value; ok is false where an optional source is missing.
func (p Pod) envValue(ctx context.Context, c *corev1.Container, e corev1.EnvVar, before map[string]string, alloc Allocatable) (v string, ok bool, err error) {
	f := e.ValueFrom
	switch {
	case f == nil:
		return Expand(e.Value, before), true, nil
	case f.FieldRef != nil:
		v, err = FieldValue(p.Pod, p.IP, f.FieldRef.FieldPath)
		return v, err == nil, err
	case f.ResourceFieldRef != nil:
		name := f.ResourceFieldRef.ContainerName
		if name == "" {
			name = c.Name
		}
		v, err = ResourceValue(p.Pod, name, f.ResourceFieldRef, alloc)
		return v, err == nil, err
	case f.ConfigMapKeyRef != nil:
		r := f.ConfigMapKeyRef
		cm, err := p.Get.ConfigMap(ctx, p.Pod.Namespace, r.Name)
		if err != nil {
			return "", false, missing(err, "configmap", r.Name, r.Optional)
		}
		v, ok = cm.Data[r.Key]
		return v, ok, absent(ok, r.Key, "ConfigMap", p.Pod.Namespace, r.Name, r.Optional)
	case f.SecretKeyRef != nil:
		r := f.SecretKeyRef
		s, err := p.Get.Secret(ctx, p.Pod.Namespace, r.Name)
		if err != nil {
			return "", false, missing(err, "secret", r.Name, r.Optional)
		}
		b, ok := s.Data[r.Key]
		return string(b), ok, absent(ok, r.Key, "Secret", p.Pod.Namespace, r.Name, r.Optional)
	}
	return "", false, configError("environment variable %q: its source is not supported yet", e.Name)
}

func absent(ok bool, key, kind, ns, name string, optional *bool) error {
	if ok || (optional != nil && *optional) {
		return nil
	}
	return configError("couldn't find key %s in %s %s/%s", key, kind, ns, name)
}

// Expand replaces $(NAME) by the variable's value as Kubernetes does: an unknown name stays as it is, $$ is one $.
func Expand(s string, vars map[string]string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		switch s[i+1] {
		case '$':
			b.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(s[i+2:], ')')
			if end < 0 {
				b.WriteString("$(")
				i++
				continue
			}
			name := s[i+2 : i+2+end]
			if v, ok := vars[name]; ok {
				b.WriteString(v)
			} else {
				b.WriteString("$(" + name + ")")
			}
			i += 2 + end
		default:
			b.WriteByte('$')
			b.WriteByte(s[i+1])
			i++
		}
	}
	return b.String()
}

// FieldValue is a pod's field as the downward API gives it. hostIP comes from the pod's status.
func FieldValue(pod *corev1.Pod, ip, field string) (string, error) {
	if name, ok := subscript(field, "metadata.annotations"); ok {
		return pod.Annotations[name], nil
	}
	if name, ok := subscript(field, "metadata.labels"); ok {
		return pod.Labels[name], nil
	}
	switch field {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.labels":
		return formatMap(pod.Labels), nil
	case "metadata.annotations":
		return formatMap(pod.Annotations), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.podIP", "status.podIPs":
		return ip, nil
	case "status.hostIP", "status.hostIPs":
		return pod.Status.HostIP, nil
	}
	return "", configError("fieldPath %q is not supported", field)
}

func subscript(field, of string) (string, bool) {
	rest, ok := strings.CutPrefix(field, of+"['")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, "']")
}

func formatMap(m map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(&b, "%s=%q\n", k, m[k])
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// ResourceValue is a container's request or limit divided by the divisor, rounded up; a limit that is not set is what the node has.
func ResourceValue(pod *corev1.Pod, container string, r *corev1.ResourceFieldSelector, alloc Allocatable) (string, error) {
	var c *corev1.Container
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == container {
				c = &list[i]
			}
		}
	}
	if c == nil {
		return "", configError("resourceFieldRef: the pod has no container %q", container)
	}
	kind, name, ok := strings.Cut(r.Resource, ".")
	if !ok || (kind != "limits" && kind != "requests") {
		return "", configError("resourceFieldRef: resource %q: want limits.NAME or requests.NAME", r.Resource)
	}
	list := c.Resources.Requests
	if kind == "limits" {
		list = c.Resources.Limits
	}
	q, set := list[corev1.ResourceName(name)]
	cpu := name == string(corev1.ResourceCPU)
	if !set && kind == "limits" {
		q = *resource.NewQuantity(alloc.Memory, resource.BinarySI)
		if cpu {
			q = *resource.NewMilliQuantity(alloc.MilliCPU, resource.DecimalSI)
		}
	}
	amount, divisor := q.Value(), max(r.Divisor.Value(), 1)
	if cpu {
		amount, divisor = q.MilliValue(), r.Divisor.MilliValue()
		if divisor == 0 {
			divisor = 1000
		}
	}
	return strconv.FormatInt((amount+divisor-1)/divisor, 10), nil
}
