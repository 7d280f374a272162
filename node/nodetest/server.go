// Package nodetest is an API server in memory for tests of the agent: it is Source and Sink, and can be away.
//
// It owns the objects given to it and hands out copies. How data passes through: Put and Delete change objects as a user or
// controller would, followers are told at once, and what the agent writes is found with Get.
package nodetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/object"
)

// Server is the API in memory.
type Server struct {
	mu     sync.Mutex
	rev    int
	m      map[object.Key]object.Object
	follow map[*follower]bool
	away   bool
	// Writes counts the agent's writes by verb and resource ("status pods").
	writes map[string]int
	delays map[string]time.Duration
	before func()
}

type follower struct {
	sel  object.Selection
	kick chan struct{}
	todo []func(object.Receiver)
}

// ErrAway is what every call answers while the server is away.
var ErrAway = errors.New("server is away")

// NewServer returns one without objects.
func NewServer() *Server {
	return &Server{m: map[object.Key]object.Object{}, follow: map[*follower]bool{}, writes: map[string]int{}, delays: map[string]time.Duration{}}
}

// SetAway makes every call of the agent fail, or work again. Followers then get the whole set anew.
func (s *Server) SetAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
	if !away {
		for f := range s.follow {
			s.replace(f)
		}
	}
}

func (s *Server) replace(f *follower) {
	var list []object.Object
	for _, o := range s.m {
		if selects(f.sel, o) {
			list = append(list, o)
		}
	}
	f.push(func(r object.Receiver) { r.Replace(list) })
}

func (f *follower) push(do func(object.Receiver)) {
	f.todo = append(f.todo, do)
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// selects knows resource, namespace and the field selectors spec.nodeName and metadata.name.
func selects(sel object.Selection, o object.Object) bool {
	k := object.KeyOf(o)
	if k.Resource != sel.Resource || (sel.Namespace != "" && k.Namespace != sel.Namespace) {
		return false
	}
	field, value, ok := strings.Cut(sel.FieldSelector, "=")
	switch {
	case !ok:
		return true
	case field == "metadata.name":
		return k.Name == value
	case field == "spec.nodeName":
		pod, isPod := o.(*corev1.Pod)
		return isPod && pod.Spec.NodeName == value
	}
	return false
}

// Follow implements node.Source.
func (s *Server) Follow(ctx context.Context, sel object.Selection, r object.Receiver) error {
	f := &follower{sel: sel, kick: make(chan struct{}, 1)}
	s.mu.Lock()
	s.follow[f] = true
	if !s.away {
		s.replace(f)
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.follow, f)
		s.mu.Unlock()
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.kick:
		}
		s.mu.Lock()
		todo := f.todo
		f.todo = nil
		s.mu.Unlock()
		for _, do := range todo {
			do(r)
		}
	}
}

func notFound(key object.Key) error {
	k, _ := object.KindOfResource(key.Resource)
	return apierrors.NewNotFound(k.GroupResource(), key.Name)
}

// Get implements node.Source.
func (s *Server) Get(ctx context.Context, key object.Key) (object.Object, error) {
	if err := s.pause(ctx, "get "+key.Resource); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return nil, ErrAway
	}
	o, ok := s.m[key]
	if !ok {
		return nil, notFound(key)
	}
	return object.Copy(o), nil
}

// Put stores an object as a user would.
func (s *Server) Put(o object.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(object.Copy(o))
}

// Hide stores an object that followers do not hear of: who asks for it gets it.
func (s *Server) Hide(o object.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[object.KeyOf(o)] = object.Copy(o)
}

func (s *Server) put(o object.Object) object.Object {
	s.rev++
	o.SetResourceVersion(strconv.Itoa(s.rev))
	if o.GetUID() == "" {
		o.SetUID(types.UID(fmt.Sprintf("uid-%d", s.rev)))
	}
	s.m[object.KeyOf(o)] = o
	for f := range s.follow {
		if selects(f.sel, o) && !s.away {
			f.push(func(r object.Receiver) { r.Upsert(o) })
		}
	}
	return object.Copy(o)
}

// Remove takes an object away at once.
func (s *Server) Remove(key object.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.m[key]
	if !ok {
		return
	}
	delete(s.m, key)
	for f := range s.follow {
		if selects(f.sel, o) && !s.away {
			f.push(func(r object.Receiver) { r.Remove(key) })
		}
	}
}

// Delay makes the agent's calls of a kind ("status pods", "get secrets") wait so long before they are done.
func (s *Server) Delay(what string, by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delays[what] = by
}

func (s *Server) pause(ctx context.Context, what string) error {
	s.mu.Lock()
	delay := s.delays[what]
	s.mu.Unlock()
	if delay <= 0 {
		return nil
	}
	select {
	case <-time.After(delay):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// change is one write of the agent: it is counted, and refused while the server is away. do gets what stands there, nil if nothing
// does, under the lock.
func (s *Server) change(ctx context.Context, verb string, key object.Key, do func(old object.Object) (object.Object, error)) (object.Object, error) {
	what := verb + " " + key.Resource
	if err := s.pause(ctx, what); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return nil, ErrAway
	}
	s.writes[what]++
	return do(s.m[key])
}

// Create implements node.Sink.
func (s *Server) Create(ctx context.Context, o object.Object) (object.Object, error) {
	key := object.KeyOf(o)
	return s.change(ctx, "create", key, func(old object.Object) (object.Object, error) {
		if old != nil {
			k, _ := object.KindOfResource(key.Resource)
			return nil, apierrors.NewAlreadyExists(k.GroupResource(), key.Name)
		}
		return s.put(o), nil
	})
}

// Update implements node.Sink.
func (s *Server) Update(ctx context.Context, o object.Object) (object.Object, error) {
	key := object.KeyOf(o)
	return s.change(ctx, "update", key, func(old object.Object) (object.Object, error) {
		if old == nil {
			return nil, notFound(key)
		}
		if v := o.GetResourceVersion(); v != "" && v != old.GetResourceVersion() {
			k, _ := object.KindOfResource(key.Resource)
			return nil, apierrors.NewConflict(k.GroupResource(), key.Name, errors.New("it was changed"))
		}
		return s.put(o), nil
	})
}

// UpdateStatus implements node.Sink for pods and nodes.
func (s *Server) UpdateStatus(ctx context.Context, o object.Object) (object.Object, error) {
	key := object.KeyOf(o)
	return s.change(ctx, "status", key, func(old object.Object) (object.Object, error) {
		if old == nil {
			return nil, notFound(key)
		}
		next := object.Copy(old)
		switch o := o.(type) {
		case *corev1.Pod:
			if o.UID != old.GetUID() {
				return nil, notFound(key)
			}
			next.(*corev1.Pod).Status = o.Status
		case *corev1.Node:
			next.(*corev1.Node).Status = o.Status
		default:
			return nil, fmt.Errorf("no status for %T", o)
		}
		return s.put(next), nil
	})
}

// BeforeDelete has something done before the agent's next removal of an object, as where a pod that waits for the room is bound in the same transaction, and
// the agent hears of that first.
func (s *Server) BeforeDelete(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = do
}

// Delete implements node.Sink.
func (s *Server) Delete(_ context.Context, key object.Key, uid string) error {
	s.mu.Lock()
	if do := s.before; do != nil {
		s.before = nil
		s.mu.Unlock()
		do()
		s.mu.Lock()
	}
	away := s.away
	o, ok := s.m[key]
	s.writes["delete "+key.Resource]++
	s.mu.Unlock()
	if away {
		return ErrAway
	}
	if !ok || string(o.GetUID()) != uid {
		return notFound(key)
	}
	s.Remove(key)
	return nil
}

// Pod returns a pod as it stands, nil if there is none.
func (s *Server) Pod(namespace, name string) *corev1.Pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.m[object.Key{Resource: "pods", Namespace: namespace, Name: name}]
	if !ok {
		return nil
	}
	return object.Copy(o).(*corev1.Pod)
}

// Told returns the events about an object as "TYPE REASON MESSAGE", in no order.
func (s *Server) Told(name string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, o := range s.m {
		if e, ok := o.(*corev1.Event); ok && e.InvolvedObject.Name == name {
			out = append(out, e.Type+" "+e.Reason+" "+e.Message)
		}
	}
	return out
}

// Events returns the reasons of the events about an object, in no order.
func (s *Server) Events(name string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, o := range s.m {
		if e, ok := o.(*corev1.Event); ok && e.InvolvedObject.Name == name {
			out = append(out, e.Reason)
		}
	}
	return out
}

// Writes counts the agent's writes of a kind ("status pods", "create events").
func (s *Server) Writes(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writes[what]
}
