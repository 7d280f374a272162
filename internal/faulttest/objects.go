package faulttest

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reconcile/cluster"
	"reconcile/object"
	"reconcile/sequencer"
)

// operateObject performs one operation on a ConfigMap, by the ways that the Kubernetes API has: a write is based on the resourceVersion that the
// client has read, which is the same as to compare the value, for no value is written twice.
func (m *member) operateObject(ctx context.Context, in input) output {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: in.Key}}
	key := object.KeyOf(cm)
	if in.Kind == opObjectGet {
		if err := m.seq.Barrier(ctx); err != nil {
			return output{Failed: err.Error()}
		}
		live, ok := cluster.NewView(m.store.View()).Get(key)
		if !ok {
			return output{}
		}
		return output{Value: live.(*corev1.ConfigMap).Data["v"], Version: live.GetResourceVersion()}
	}
	cm.Data = map[string]string{"v": in.Value}
	op := sequencer.Op{Verb: sequencer.Update, Key: key, Object: cm, ResourceVersion: in.Version}
	switch {
	case in.Expect == "":
		op.Verb = sequencer.Create
	case in.deletes():
		op.Verb, op.Object = sequencer.Delete, nil
	}
	res, err := m.seq.Submit(ctx, sequencer.Request{User: "faulttest", Ops: []sequencer.Op{op}})
	switch {
	case err == nil && in.deletes():
		return output{Rev: res.Rev}
	case err == nil: // requests share entries: the last revision of the entry may be another's
		version := res.Objects[0].GetResourceVersion()
		rev, err := strconv.ParseUint(version, 10, 64)
		if err != nil || rev > res.Rev {
			return output{Failed: fmt.Sprintf("the answer at revision %d has resourceVersion %q", res.Rev, version)}
		}
		return output{Rev: rev, Version: version}
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err):
		return output{Stale: true}
	case certain(err):
		return output{Failed: err.Error()}
	}
	return output{Unknown: err.Error()}
}

// makeNamespace makes the namespace of the ConfigMaps.
func (m *member) makeNamespace(ctx context.Context) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: metav1.NamespaceDefault}}
	_, err := m.seq.Submit(ctx, sequencer.Request{User: "faulttest", Ops: []sequencer.Op{{Verb: sequencer.Create, Key: object.KeyOf(ns), Object: ns}}})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	if err != nil && ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	return err
}
