package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"reconcile/node/volume"
	"reconcile/object"
)

const (
	// objectTTL is how old a ConfigMap or Secret may be when a container is started.
	objectTTL = time.Second
	// maxObjects is from how many on those are forgotten that nobody has read for objectRest: pods come and go.
	maxObjects = 256
	objectRest = 10 * time.Minute
)

// objects reads ConfigMaps and Secrets through the Source. Pods of one set start together: what is a moment old is used again, and
// what is older when no server answers.
type objects struct {
	src Source
	mu  sync.Mutex
	m   map[object.Key]*cached
}

type cached struct {
	used time.Time // guarded by objects.mu

	mu sync.Mutex
	at time.Time
	o  object.Object
}

// forget makes room. The caller holds the lock.
func (s *objects) forget() {
	if len(s.m) < maxObjects {
		return
	}
	for key, c := range s.m {
		if time.Since(c.used) > objectRest {
			delete(s.m, key)
		}
	}
}

var _ volume.Getter = (*objects)(nil)

func (s *objects) get(ctx context.Context, key object.Key) (object.Object, error) {
	s.mu.Lock()
	c := s.m[key]
	if c == nil {
		s.forget()
		c = &cached{}
		s.m[key] = c
	}
	c.used = time.Now()
	s.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.o != nil && time.Since(c.at) < objectTTL {
		return c.o, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	o, err := s.src.Get(ctx, key)
	switch {
	case apierrors.IsNotFound(err):
		c.o = nil
		return nil, fmt.Errorf("%s: %w", key, volume.ErrNotFound)
	case err != nil && c.o != nil:
		// The next one who waited for the same need not find out again that no server answers.
		c.at = time.Now()
		return c.o, nil
	case err != nil:
		return nil, err
	}
	c.o, c.at = o, time.Now()
	return o, nil
}

// ConfigMap implements volume.Getter.
func (s *objects) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	o, err := s.get(ctx, object.Key{Resource: "configmaps", Namespace: namespace, Name: name})
	cm, ok := o.(*corev1.ConfigMap)
	if err == nil && !ok {
		err = fmt.Errorf("configmap %s/%s: got a %T", namespace, name, o)
	}
	return cm, err
}

// Secret implements volume.Getter.
func (s *objects) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	o, err := s.get(ctx, object.Key{Resource: "secrets", Namespace: namespace, Name: name})
	sec, ok := o.(*corev1.Secret)
	if err == nil && !ok {
		err = fmt.Errorf("secret %s/%s: got a %T", namespace, name, o)
	}
	return sec, err
}
