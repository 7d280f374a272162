package apiserver

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// draw makes random courses. The same seed makes the same course.
type draw struct{ *rand.Rand }

func one[T any](d draw, of ...T) T { return of[d.IntN(len(of))] }

func words(d draw) doc {
	out := doc{}
	for range d.IntN(3) {
		out[one(d, "k", "l", "m")] = one(d, "v", "w", "")
	}
	return out
}

// object is a whole body of a kind.
func (d draw) object(k kind, name string) doc {
	meta := doc{"name": k.named(name)}
	if d.IntN(2) == 0 {
		meta["labels"] = doc{"l": one(d, "1", "2")}
	}
	if d.IntN(4) == 0 {
		meta["annotations"] = words(d)
	}
	if d.IntN(8) == 0 {
		meta["finalizers"] = []any{"example.com/hold"}
	}
	o := k.body(d)
	if d.IntN(6) == 0 {
		d.spoil(o)
	}
	o["apiVersion"], o["kind"], o["metadata"] = k.gv, k.name, meta
	return o
}

// named is what an object that a course calls name is called: courses share what lies in no namespace.
func (k kind) named(name string) string {
	if k.cluster {
		return "$ns-" + name
	}
	return name
}

// spoil takes something out of a document or puts something wrong in, anywhere.
func (d draw) spoil(o doc) {
	keys := slices.Sorted(maps.Keys(o))
	if len(keys) == 0 {
		return
	}
	key := keys[d.IntN(len(keys))]
	switch v := o[key].(type) {
	case doc:
		if d.IntN(4) > 0 {
			d.spoil(v)
			return
		}
	case arr:
		if len(v) > 0 && d.IntN(4) > 0 {
			if in, ok := v[0].(doc); ok {
				d.spoil(in)
				return
			}
		}
	}
	if d.IntN(3) == 0 {
		delete(o, key)
		return
	}
	o[key] = one[any](d, nil, "", "x_Y", -1, 70000, doc{}, arr{}, true)
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // what is drawn is plain
	}
	return string(b)
}

func (d draw) query(choices ...string) string {
	var out []string
	for _, c := range choices {
		if d.IntN(5) == 0 {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return "?" + strings.Join(out, "&")
}

// write is a creation or an update.
func (d draw) write(k kind, name string) step {
	o := d.object(k, name)
	s := step{method: "POST", path: k.path, save: name}
	if d.IntN(2) == 0 {
		s.method, s.path = "PUT", k.path+"/"+k.named(name)
		meta, _ := o["metadata"].(doc)
		switch d.IntN(5) {
		case 0:
			meta["resourceVersion"] = "$" + name + ".rv"
		case 1:
			meta["resourceVersion"] = "$old.rv"
		case 2:
			meta["uid"] = "$" + name + ".uid"
		}
	}
	s.path += d.query("dryRun=All", "fieldManager="+one(d, "one", "two"), "fieldValidation="+one(d, "Strict", "Ignore"))
	if d.IntN(4) == 0 {
		o["surplus"] = 1
	}
	if d.IntN(6) == 0 {
		delete(o, "surplus")
		s.header = append(s.header, [2]string{"Content-Type", mediaProto})
	}
	s.body = text(o)
	return s
}

// patch is a patch of any type.
func (d draw) patch(k kind, name string) step {
	s := step{method: "PATCH", path: k.path + "/" + k.named(name), save: name}
	q := []string{"dryRun=All", "fieldValidation=" + one(d, "Strict", "Ignore")}
	o := d.object(k, name)
	switch sub := d.IntN(6); {
	case sub == 0 && k.status != nil:
		s.path += "/status"
		o["status"] = k.status(d)
	case sub == 1 && k.scale:
		s.path += "/scale"
		o = doc{"metadata": doc{"name": k.named(name)}, "spec": doc{"replicas": one[any](d, 1, 2, 3, -1, "x")}}
	}
	delete(o, "apiVersion")
	delete(o, "kind")
	media := ""
	way := d.IntN(4)
	if k.name == "Service" && strings.HasSuffix(s.path, "/status") {
		way = 0 // kube-apiserver makes the service by an apply, and the rest of the course would be about another state: a fixed course has it
	}
	switch way {
	case 0:
		media = "application/merge-patch+json"
		if d.IntN(3) == 0 {
			o["metadata"] = doc{"labels": nil, "finalizers": nil}
		}
		s.body = text(o)
	case 1:
		media = "application/strategic-merge-patch+json"
		if d.IntN(3) == 0 {
			o["metadata"] = doc{"labels": doc{"$patch": one(d, "replace", "delete")}}
		}
		s.body = text(o)
	case 2:
		media = "application/json-patch+json"
		var ops []any
		for range 1 + d.IntN(3) {
			path, value := one(d, "/metadata/labels/l", "/metadata/labels", "/metadata/annotations", "/data/k", "/spec/replicas"), one[any](d, "1", "2", 3, nil, doc{"l": "1"})
			if k.name == "Secret" && path == "/data/k" && value == nil {
				value = "dg==" // the course "a secret's value that is null" is about that
			}
			ops = append(ops, doc{
				"op": one(d, "add", "add", "replace", "remove", "test", "copy"), "from": "/metadata/labels/l",
				"path": path, "value": value,
			})
		}
		s.body = text(ops)
	default:
		media = "application/apply-patch+yaml"
		o["apiVersion"], o["kind"] = k.gv, k.name
		if strings.HasSuffix(s.path, "/scale") {
			o["apiVersion"], o["kind"] = "autoscaling/v1", "Scale"
		}
		if k.name == "Secret" {
			delete(o, "stringData")
			o["data"] = doc{one(d, "k", "l"): one(d, "dg==", "dw==")}
		}
		s.body = text(o)
		q = append(q, "force="+one(d, "true", "false"))
		s.header = [][2]string{{"Content-Type", media}}
		s.path += strings.Replace("?fieldManager="+one(d, "one", "two", "three")+strings.Replace(d.query(q...), "?", "&", 1), "?&", "?", 1)
		return s
	}
	s.header = [][2]string{{"Content-Type", media}}
	s.path += d.query(append(q, "fieldManager="+one(d, "one", "two"))...)
	return s
}

func (d draw) remove(k kind, name string) step {
	s := step{method: "DELETE", path: k.path + "/" + k.named(name)}
	switch d.IntN(5) {
	case 0:
		s.body = text(doc{"propagationPolicy": one(d, "Foreground", "Background", "Orphan")})
	case 1:
		s.body = text(doc{"preconditions": doc{"resourceVersion": "$" + name + ".rv"}})
	case 2:
		if !k.cluster {
			s.path = k.path + d.query("labelSelector=l%3D1")
		}
	case 3:
		s.path += "?dryRun=All"
	}
	return s
}

func (d draw) read(k kind, name string) step {
	s := step{method: "GET", path: k.path, save: "old"}
	if d.IntN(3) == 0 || k.cluster {
		s.path += "/" + k.named(name)
	} else {
		s.save = "page"
		s.path += d.query("limit="+one(d, "1", "2", "500"), "labelSelector="+one(d, "l%3D1", "l", "!l", "l+in+(1,2)"), "resourceVersion="+one(d, "0", "$a.rv", "$b.rv"),
			"resourceVersionMatch="+one(d, "Exact", "NotOlderThan"), "continue=$page.continue", "fieldSelector=metadata.name"+one(d, "%3Da", "!%3Da"))
	}
	if d.IntN(3) == 0 {
		s.header = [][2]string{{"Accept", one(d, "application/json;as=Table;v=v1;g=meta.k8s.io", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json",
			mediaProto, "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json")}}
	}
	return s
}

// course is a random course of one kind.
func randomCourse(seed uint64) course {
	d := draw{rand.New(rand.NewPCG(seed, 1))}
	k := kinds[d.IntN(len(kinds))]
	c := course{name: fmt.Sprintf("seed %d", seed)}
	name := func() string { return one(d, "a", "a", "b", "c") }
	c.steps = append(c.steps, step{method: "POST", path: k.path, body: text(d.object(k, "a")), save: "a"})
	for range 12 + d.IntN(12) {
		switch d.IntN(10) {
		case 0, 1, 2:
			c.steps = append(c.steps, d.write(k, name()))
		case 3, 4, 5, 6:
			c.steps = append(c.steps, d.patch(k, name()))
		case 7:
			c.steps = append(c.steps, d.remove(k, name()))
		default:
			c.steps = append(c.steps, d.read(k, name()))
		}
	}
	if d.IntN(4) == 0 && !k.cluster {
		c.steps = append(c.steps, step{method: "GET", path: k.path + "?watch=true&timeoutSeconds=1&resourceVersion=$a.rv" +
			strings.Replace(d.query("labelSelector=l%3D1", "allowWatchBookmarks=true"), "?", "&", 1)})
	}
	return c
}

// TestRandomCourses plays JUDGE_COURSES courses (100) from JUDGE_SEED (1) on.
func TestRandomCourses(t *testing.T) {
	number := func(name string, otherwise int) int {
		v := os.Getenv(name)
		if v == "" {
			return otherwise
		}
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return n
	}
	seed := number("JUDGE_SEED", 1)
	var courses []course
	for i := range number("JUDGE_COURSES", 100) {
		courses = append(courses, randomCourse(uint64(seed+i)))
	}
	ours, s := startOurs(t)
	judge(t, startPeer(t, s.Authority), ours, courses)
}
