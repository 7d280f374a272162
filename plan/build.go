package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"reconcile/admission"
	"reconcile/controller"
	"reconcile/object"
	"reconcile/scheduler"
)

// Build makes the plan of what was decided. A forecast and a commit call it alike, with what the same Settle gave them. An
// error means that an object could not be read as JSON, which a stored object always can.
func Build(in Input) (*Plan, error) {
	p := &Plan{Commit: in.Commit, Base: in.BaseRef, Source: in.Source, Changes: []Change{}}
	for _, ch := range in.Requested {
		c, ok, err := changeOf(in, ch)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		p.Changes = append(p.Changes, c)
		switch c.Verb {
		case VerbCreate:
			p.Counts.Create++
		case VerbDelete:
			p.Counts.Delete++
		case VerbAdopt:
			p.Counts.Adopt++
			p.Counts.Change++
		default:
			p.Counts.Change++
		}
	}
	slices.SortStableFunc(p.Changes, func(a, b Change) int { return a.Key.Compare(b.Key) })
	p.Cascade = cascadeOf(in)
	p.Placements = placementsOf(in.Outcome.Placements)
	p.Unplaced = unplacedOf(in.Outcome.Unplaced)
	p.Rules = rulesOf(in)
	p.Warnings = warningsOf(in)
	p.Token = token(in, p.Rules)
	return p, nil
}

// changeOf describes one change of the request; false if it is not for a reader: the ledger's own entry, or marks only.
func changeOf(in Input, ch controller.Change) (Change, bool, error) {
	if ch.Key.Resource == "commits" {
		return Change{}, false, nil
	}
	c := Change{Verb: verbOf(ch), Key: ch.Key}
	if c.Verb == VerbDelete {
		if owner, ok := admission.GitOwner(ch.Old); ok {
			c.File = owner.File
		}
		return c, true, nil
	}
	if in.Position != nil {
		c.File, _ = in.Position(ch.Key, "")
	}
	if owner, ok := admission.GitOwner(ch.New); ok && c.File == "" {
		c.File = owner.File
	}
	fields, err := fieldsOf(in, ch)
	if err != nil {
		return c, false, err
	}
	c.Fields = fields
	if in.Adopted[ch.Key] && ch.Old != nil {
		c.Verb = VerbAdopt
		return c, true, nil
	}
	return c, c.Verb == VerbCreate || len(fields) > 0, nil
}

func verbOf(ch controller.Change) string {
	switch {
	case ch.Old == nil:
		return VerbCreate
	case ch.New == nil, ch.New.GetDeletionTimestamp() != nil && ch.Old.GetDeletionTimestamp() == nil:
		return VerbDelete
	}
	return VerbChange
}

// countOfTemplates is what the server counts by itself when a daemon set's template changes: it says nothing that the template does not.
const countOfTemplates = "metadata.annotations[" + appsv1.DeprecatedTemplateGeneration + "]"

// fieldsOf lists the fields that differ. Of a new object those that its file sets are listed, not its defaults.
func fieldsOf(in Input, ch controller.Change) ([]FieldChange, error) {
	k, ok := object.KindOfResource(ch.Key.Resource)
	if !ok {
		return nil, fmt.Errorf("describe the change of %s: %w", ch.Key, object.ErrUnknownKind)
	}
	var old, now map[string]any
	var err error
	if ch.Old != nil {
		if old, err = object.ToMap(ch.Old); err != nil {
			return nil, fmt.Errorf("describe the change of %s: %w", ch.Key, err)
		}
	}
	if now, err = object.ToMap(ch.New); err != nil {
		return nil, fmt.Errorf("describe the change of %s: %w", ch.Key, err)
	}
	owned := admission.GitFields(ch.New)
	var out []FieldChange
	for _, d := range object.Diff(k, old, now) {
		if ch.Old == nil && len(owned) > 0 && !owned.Owns(d.Elements) || d.Path == countOfTemplates {
			continue
		}
		f := FieldChange{Path: d.Path, Old: text(ch.Key, d.Path, d.Old), New: text(ch.Key, d.Path, d.New)}
		if in.Position != nil && d.New != nil {
			f.File, _ = in.Position(ch.Key, d.Index)
		}
		out = append(out, f)
	}
	return out, nil
}

// counted are the resources whose objects a plan counts as what controllers make.
var counted = []string{"jobs", "persistentvolumeclaims", "pods", "replicasets"}

// cascadeOf counts what the controllers made and deleted.
func cascadeOf(in Input) []Cascade {
	requested := map[object.Key]bool{}
	for _, ch := range in.Requested {
		requested[ch.Key] = true
	}
	type group struct {
		owner    object.Key
		resource string
	}
	sums := map[group]*Cascade{}
	for _, ch := range in.Written {
		if requested[ch.Key] || !slices.Contains(counted, ch.Key.Resource) {
			continue
		}
		verb := verbOf(ch)
		if verb == VerbChange {
			continue
		}
		g := group{ownerOf(in, ch), ch.Key.Resource}
		c := sums[g]
		if c == nil {
			c = &Cascade{Owner: g.owner, Resource: g.resource}
			sums[g] = c
		}
		if verb == VerbCreate {
			c.Created++
		} else {
			c.Deleted++
		}
	}
	var out []Cascade
	for g, c := range sums {
		if g.resource == "pods" {
			c.Note = noteOf(in.After, g.owner)
		}
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b Cascade) int { return cmp.Or(a.Owner.Compare(b.Owner), cmp.Compare(a.Resource, b.Resource)) })
	return out
}

// ownerOf is the top owner of what a controller made or deleted, looked up in the state in which the object was whole.
func ownerOf(in Input, ch controller.Change) object.Key {
	o, v := ch.New, in.After
	if ch.Old != nil {
		o, v = ch.Old, in.Base
	}
	if p, ok := o.(*corev1.Pod); ok {
		if k := controller.TopOwner(v, p); k != (object.Key{}) {
			return k
		}
		return ch.Key
	}
	if ref := metav1.GetControllerOfNoCopy(o); ref != nil {
		if k, ok := object.KindOf(schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)); ok && k.Namespaced {
			return object.Key{Resource: k.Resource, Namespace: ch.Key.Namespace, Name: ref.Name}
		}
	}
	return ch.Key
}

// noteOf tells what an owner will still do when its pods become ready.
func noteOf(v controller.View, owner object.Key) string {
	o, ok := v.Get(owner)
	if !ok || o.GetDeletionTimestamp() != nil {
		return ""
	}
	switch o := o.(type) {
	case *appsv1.Deployment:
		return deploymentNote(v, o)
	case *appsv1.StatefulSet:
		if n := int32(wanted(o.Spec.Replicas)); o.Status.UpdatedReplicas < n && o.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType {
			return fmt.Sprintf("%d of %d pods are of this revision then, the rest follow in order", o.Status.UpdatedReplicas, n)
		}
	case *appsv1.DaemonSet:
		if s := o.Status; s.UpdatedNumberScheduled < s.DesiredNumberScheduled && o.Spec.UpdateStrategy.Type != appsv1.OnDeleteDaemonSetStrategyType {
			return fmt.Sprintf("rolling update, %d of %d nodes have this revision then, the rest follow as pods become ready", s.UpdatedNumberScheduled, s.DesiredNumberScheduled)
		}
	}
	return ""
}

func deploymentNote(v controller.View, d *appsv1.Deployment) string {
	if d.Spec.Replicas == nil {
		return ""
	}
	total := int32(0)
	old := int32(0)
	for child := range v.Owned(d.UID) {
		rs, ok := child.(*appsv1.ReplicaSet)
		if !ok || rs.Spec.Replicas == nil {
			continue
		}
		if rs.Annotations["deployment.kubernetes.io/revision"] == d.Annotations["deployment.kubernetes.io/revision"] {
			total += *rs.Spec.Replicas
		} else {
			old += *rs.Spec.Replicas
		}
	}
	if old == 0 && total >= *d.Spec.Replicas {
		return ""
	}
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return "new pods follow when the old ones are gone"
	}
	return fmt.Sprintf("rolling update, %d of %d new pods now, the rest as they become ready", total, *d.Spec.Replicas)
}

func placementsOf(list []controller.Placement) []Placement {
	byOwner := map[object.Key]*Placement{}
	for _, p := range list {
		owner := p.Owner
		if owner == (object.Key{}) {
			owner = p.Pod
		}
		g := byOwner[owner]
		if g == nil {
			g = &Placement{Owner: owner}
			byOwner[owner] = g
		}
		g.Pods++
		g.Each = append(g.Each, p)
	}
	var out []Placement
	for _, g := range byOwner {
		counts := map[string]int{}
		for _, p := range g.Each {
			counts[p.Node]++
		}
		for node, n := range counts {
			g.Nodes = append(g.Nodes, NodeCount{Node: node, Pods: n})
		}
		slices.SortFunc(g.Nodes, func(a, b NodeCount) int { return cmp.Compare(a.Node, b.Node) })
		slices.SortFunc(g.Each, func(a, b controller.Placement) int { return a.Pod.Compare(b.Pod) })
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b Placement) int { return a.Owner.Compare(b.Owner) })
	return out
}

func unplacedOf(list []controller.Unplaced) []Unplaced {
	type group struct {
		owner   object.Key
		message string
	}
	counts := map[group]int{}
	for _, u := range list {
		owner := u.Owner
		if owner == (object.Key{}) {
			owner = u.Pod
		}
		counts[group{owner, u.Message}]++
	}
	var out []Unplaced
	for g, n := range counts {
		out = append(out, Unplaced{Owner: g.owner, Pods: n, Message: g.message})
	}
	slices.SortFunc(out, func(a, b Unplaced) int { return cmp.Or(a.Owner.Compare(b.Owner), cmp.Compare(a.Message, b.Message)) })
	return out
}

func warningsOf(in Input) []string {
	out := slices.Clone(in.Warnings)
	for _, ch := range in.Requested {
		svc, ok := ch.New.(*corev1.Service)
		if !ok || svc.DeletionTimestamp != nil || len(svc.Spec.Selector) == 0 {
			continue
		}
		if _, any := selected(in.After, svc); !any {
			out = append(out, fmt.Sprintf("%s selects no pod: nothing has the labels %s", ch.Key, labels.FormatLabels(svc.Spec.Selector)))
		}
	}
	out = append(out, accountFaults(in)...)
	out = append(out, profileFaults(in)...)
	for _, q := range append(slices.Clone(in.Outcome.Quarantined), in.Outcome.Errors...) {
		line, _, _ := strings.Cut(q.Reason, "\n")
		out = append(out, fmt.Sprintf("controller %s could not work on %s: %s", q.Trigger.Controller, q.Trigger.Key, line))
	}
	if n := len(in.Outcome.Leftover); n > 0 {
		out = append(out, fmt.Sprintf("the change is large: controllers go on with %d objects right after the commit, which this plan does not show", n))
	}
	return out
}

// placeOf is " (FILE:LINE:COLUMN)" of the field at a path, or else of its object; empty if neither is in a file of this commit.
func (in *Input) placeOf(key object.Key, path string) string {
	if in.Position == nil {
		return ""
	}
	line, column := in.Position(key, path)
	if line == "" {
		line, column = in.Position(key, "")
	}
	switch {
	case line == "":
		return ""
	case column == 0:
		return " (" + line + ")"
	}
	return fmt.Sprintf(" (%s:%d)", line, column)
}

// accountFaults tells of what the request makes or changes, or leaves without its ServiceAccount, whose pods run as one that is not there afterwards; with the
// places, in the order of the request and then of the keys.
func accountFaults(in Input) (out []string) {
	told, gone := map[object.Key]bool{}, map[object.Key]bool{}
	fault := func(o object.Object, account, format string) {
		key := object.KeyOf(o)
		path := "spec.template.spec.serviceAccountName"
		if key.Resource == "cronjobs" {
			path = "spec.jobTemplate." + path
		}
		told[key] = true
		out = append(out, fmt.Sprintf("%s: "+format+"%s", key, account, key.Namespace, in.placeOf(key, path)))
	}
	for _, ch := range in.Requested {
		if ch.Key.Resource == "serviceaccounts" && verbOf(ch) == VerbDelete {
			gone[ch.Key] = true
			continue
		}
		if ch.New == nil || ch.Key.Resource == "podtemplates" {
			continue
		}
		if account := accountOf(ch.New); account != "" && !in.accountAfter(ch.Key.Namespace, account) {
			fault(ch.New, account, "no pod of it can be made: there is no ServiceAccount %s in namespace %s, and none comes with this")
		}
	}
	if len(gone) == 0 {
		return out
	}
	for _, resource := range []string{"cronjobs", "daemonsets", "deployments", "jobs", "replicasets", "replicationcontrollers", "statefulsets"} {
		for o := range in.After.List(resource, "") {
			account := accountOf(o)
			if account == "" || told[object.KeyOf(o)] || !gone[accountKey(o.GetNamespace(), account)] || metav1.GetControllerOfNoCopy(o) != nil || in.accountAfter(o.GetNamespace(), account) {
				continue // what has a controller is made anew by that, which is told of
			}
			fault(o, account, "no pod of it can be made any more: this takes away ServiceAccount %s of namespace %s, which they run as")
		}
	}
	return out
}

// accountOf is the ServiceAccount that an object's pods are to run as; empty if it makes none, or they run as the one that no namespace is without.
func accountOf(o object.Object) string {
	t := object.PodTemplate(o)
	if t == nil || o.GetDeletionTimestamp() != nil || t.Spec.ServiceAccountName == "default" {
		return ""
	}
	if j, ok := o.(*batchv1.Job); ok && slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool {
		return c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed)
	}) {
		return ""
	}
	return t.Spec.ServiceAccountName
}

func accountKey(namespace, name string) object.Key {
	return object.Key{Resource: "serviceaccounts", Namespace: namespace, Name: name}
}

// accountAfter tells whether a ServiceAccount is there after the request, or nothing is made there, as its namespace goes.
func (in *Input) accountAfter(namespace, name string) bool {
	if ns, ok := in.After.Get(object.Key{Resource: "namespaces", Name: namespace}); ok && ns.GetDeletionTimestamp() != nil {
		return true
	}
	sa, ok := in.After.Get(accountKey(namespace, name))
	return ok && sa.GetDeletionTimestamp() == nil
}

// profileFaults tells of scheduler profiles of the request that cannot be read, with their places.
func profileFaults(in Input) (out []string) {
	if !slices.ContainsFunc(in.Requested, func(ch controller.Change) bool { return ch.Key == scheduler.ProfilesKey && ch.New != nil }) {
		return nil
	}
	_, err := scheduler.ReadProfiles(in.After, in.Extensions...)
	for _, f := range scheduler.ProfileFaults(err) {
		out = append(out, strings.ReplaceAll(f.Error(), "\n", "; ")+in.placeOf(scheduler.ProfilesKey, "data."+f.Name))
	}
	return out
}
