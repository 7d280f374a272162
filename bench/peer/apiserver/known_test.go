package apiserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// difference is one that is meant, with its reason. docs/kubectl.md tells users of those that they can meet.
type difference struct {
	why string
	// of is what the path of the request must match, empty for any.
	of string
	is func(peer, ours string) bool
}

// reason tells why a difference is meant, empty if it is not.
func reason(p played) string {
	for _, d := range known {
		if (d.of == "" || regexp.MustCompile(d.of).MatchString(p.step.path)) && d.is(p.peer, p.ours) {
			return d.why
		}
	}
	return ""
}

// known are the differences that are meant.
var known = []difference{
	{"kube-apiserver answers 500 to what is the client's fault; ours says what is wrong (4xx)", "", func(peer, ours string) bool {
		return strings.HasPrefix(peer, "500 ") && (strings.HasPrefix(ours, "400 ") || strings.HasPrefix(ours, "409 ") || strings.HasPrefix(ours, "422 "))
	}},
	{"a body of another kind or form: kube-apiserver names its own Go types", "", sameBut("400", `unknown conversion|is registered for version|\(\*core\.|decoded object cannot be converted|Go value of type \[\]handlers\.`)},
	{"a media type that is not served: the codes are the same, ours lists what is", "", func(peer, ours string) bool {
		return sameBut("406", ".")(peer, ours) || sameBut("415", ".")(peer, ours)
	}},
	{"a JSON patch that cannot be applied: ours adds the reason", "", sameBut("422", `"message": "the server rejected our request due to an error in our request"`)},
	{"a merge or JSON patch that makes no object of the kind: kube-apiserver shows what it made of the stored object, ours what was sent", "", sameBut("422", `patch: Invalid value: \\"[{\[]`)},
	{"kube-apiserver lists a fault of the metadata as often as it looks, ours once", "", func(peer, ours string) bool {
		a, b := causes(peer), causes(ours)
		return strings.HasPrefix(ours, "422 ") && a != nil && slices.Equal(a, b)
	}},
	{"kube-apiserver tells to continue where nothing that is selected is left; ours looks ahead", `[?&]labelSelector=.*limit=|[?&]limit=.*(label|field)Selector=`, func(peer, ours string) bool {
		return without(peer, `"continue": "\\u003ctoken\\u003e",?`) == without(ours, `"never"`)
	}},
	{"a review is not stored: ours keeps neither a time nor managers of its fields", `/(subjectaccess|localsubjectaccess|selfsubjectaccess|selfsubjectrules|token)reviews$`, func(peer, ours string) bool {
		bare := func(docs []map[string]any) {
			for _, d := range docs {
				if m, ok := d["metadata"].(map[string]any); ok {
					delete(m, "managedFields")
					delete(m, "creationTimestamp")
				}
			}
		}
		return sameDocs(peer, ours, bare, bare)
	}},
	{"who asks is told, but for the number of the certificate: part 5 brings it", `/selfsubjectreviews$`, func(peer, ours string) bool {
		return sameDocs(peer, ours, func(docs []map[string]any) {
			for _, d := range docs {
				if m, ok := d["metadata"].(map[string]any); ok {
					delete(m, "creationTimestamp")
				}
				st, _ := d["status"].(map[string]any)
				u, _ := st["userInfo"].(map[string]any)
				if x, ok := u["extra"].(map[string]any); ok && len(x) == 1 && x["authentication.kubernetes.io/credential-id"] != nil {
					delete(u, "extra")
				}
			}
		}, func([]map[string]any) {})
	}},
	{"each tells its own build; what ours is compatible with it does not tell", `^/version/?$`, func(peer, ours string) bool {
		own := func(docs []map[string]any) {
			for _, d := range docs {
				for _, k := range []string{"buildDate", "compiler", "gitCommit", "gitTreeState", "gitVersion", "goVersion", "emulationMajor", "emulationMinor", "minCompatibilityMajor", "minCompatibilityMinor"} {
					delete(d, k)
				}
			}
		}
		return sameDocs(peer, ours, own, own)
	}},
	{"the deletion of a pod that waits for nothing is one write: ours sends DELETED with the state before it, kube-apiserver MODIFIED first", `/pods\?watch=true`, func(peer, ours string) bool {
		return sameDocs(peer, ours, deletedAtOnce, deletedAtOnce)
	}},
	{"a watch from a revision that there is not: ours tells, kube-apiserver waits in silence", `[?&]watch=true.*resourceVersion=9{9}`, func(peer, ours string) bool {
		return strings.HasPrefix(peer, "200 ") && !strings.Contains(peer, "{") && strings.HasPrefix(ours, "504 ") && strings.Contains(ours, `"reason": "ResourceVersionTooLarge"`)
	}},
	{"an address or node port that was given back may be given again", `/services`, sameAfter(func(s string) string { return given.ReplaceAllString(s, "<given>") })},
	{"the deprecated count of a daemon set's templates is an annotation in apps/v1; kube-apiserver forgets it where only the metadata is asked for", `/daemonsets`, func(peer, ours string) bool {
		return strings.Contains(ours, "PartialObjectMetadata") && without(peer, noAnnotations...) == without(ours, noAnnotations...)
	}},
	{"an apply of the status of a service that there is not: kube-apiserver makes the service, and no status; for all other kinds both answer 404", `/services/[^/]+/status`, func(peer, ours string) bool {
		return (strings.HasPrefix(peer, "201 ") || strings.HasPrefix(peer, "422 ")) && strings.HasPrefix(ours, "404 ")
	}},
	{"an address that cannot be had: kube-apiserver tells of it in words that depend on the step that found it, and then of no other fault", `/services`, sameBut("422", "failed to allocate IP")},
	{"a list whose elements have lost their keys cannot be owned: the words are those of the step that found it", `/serviceaccounts`, sameBut("500", "element that omits all key fields")},
	{"who applies a scale that others have set so before: kube-apiserver writes the others' entry twice, once for replicas", `/(replicationcontrollers|replicasets|deployments|statefulsets)`, func(peer, ours string) bool {
		return sameDocs(peer, ours, joinManagers, joinManagers)
	}},
	{"a quantity that could be shorter is stored as it was sent and the next time in short, which counts as a change in kube-apiserver", `/persistentvolumeclaims/long`, func(peer, ours string) bool {
		return sameDocs(peer, ours, func([]map[string]any) {}, func([]map[string]any) {})
	}},
	{"a creation under a name that is taken, with an address that cannot be had: kube-apiserver tells of the address first", `/services(\?|$)`, func(peer, ours string) bool {
		return strings.HasPrefix(peer, "422 ") && strings.Contains(peer, "failed to allocate IP") && strings.HasPrefix(ours, "409 ") && strings.Contains(ours, `"AlreadyExists"`)
	}},
	{"a service that asks for addresses of two families where there are of one: both refuse it, ours names both fields and warns of the rest", `/services`, sameBut("422", "not configured for dual-stack services")},
	{"a precondition of a namespace's deletion: the refusal of both is a conflict, ours has the words that kube-apiserver has for all other kinds", `/namespaces/[^/]+$`, sameBut("409", `: Precondition failed: `)},
	{"a table without rows, of a kind without columns of its own: null and an empty list", "", sameAfter(func(s string) string { return strings.Replace(s, `"rows": null`, `"rows": []`, 1) })},
	{"a conflict tells where the object is kept: services and endpoints of kube-apiserver are kept under other names than theirs", "", sameAfter(func(s string) string {
		return strings.NewReplacer("/services/specs/", "/services/", "/services/endpoints/", "/endpoints/").Replace(s)
	})},
	{"who scales a workload to nothing is not kept by kube-apiserver, which leaves out a zero", `/(replicationcontrollers|replicasets|deployments|statefulsets)`, func(peer, ours string) bool {
		return sameDocs(peer, ours, withoutScalers, withoutScalers)
	}},
	{"what was scaled to nothing belongs to nobody in kube-apiserver (above): who applies a scale then meets a conflict with nobody", `/scale(\?|$)`, sameConflictWithNobody},
	{"an apply that conflicts and makes no object of the kind: kube-apiserver tells the conflict, ours the other", "", func(peer, ours string) bool {
		return strings.HasPrefix(peer, "409 ") && strings.Contains(peer, "Apply failed with") && strings.HasPrefix(ours, "400 ") && strings.Contains(ours, "cannot be handled as a")
	}},
	{"null for a value of a secret is stored as an empty text, and the next write that changes nothing counts as a change in kube-apiserver", `/secrets/nulled`, func(peer, ours string) bool {
		return sameDocs(peer, ours, func([]map[string]any) {}, func([]map[string]any) {})
	}},
}

// given is the symbol of a service's address or of a node port.
var given = regexp.MustCompile(`\\u003c(port|address) \d+\\u003e`)

// noAnnotations are the lines of annotations that hold nothing but that count.
var noAnnotations = []string{`"annotations": \{`, `"deprecated\.daemonset\.template\.generation": "\d+",?`, `\},?`}

// sameAfter tells whether both answers are the same after a change of their texts.
func sameAfter(change func(string) string) func(peer, ours string) bool {
	return func(peer, ours string) bool { return change(peer) == change(ours) }
}

// joinManagers joins the entries of one manager in all managedFields.
func joinManagers(docs []map[string]any) {
	for _, d := range docs {
		joinIn(d)
	}
}

func joinIn(v any) {
	switch v := v.(type) {
	case map[string]any:
		if entries, ok := v["managedFields"].([]any); ok {
			v["managedFields"] = joined(entries)
		}
		for _, in := range v {
			joinIn(in)
		}
	case []any:
		for _, in := range v {
			joinIn(in)
		}
	}
}

func joined(entries []any) []any {
	var out []any
	at := map[string]map[string]any{}
	for _, e := range entries {
		m, _ := e.(map[string]any)
		delete(m, "time")
		id := fmt.Sprint(m["manager"], m["operation"], m["apiVersion"], m["subresource"])
		if first, ok := at[id]; ok {
			merge(first, m)
			continue
		}
		at[id] = m
		out = append(out, m)
	}
	return out
}

// merge puts b's documents into a.
func merge(a, b map[string]any) {
	for k, v := range b {
		in, isDoc := v.(map[string]any)
		if had, ok := a[k].(map[string]any); ok && isDoc {
			merge(had, in)
		} else {
			a[k] = v
		}
	}
}

func sameConflictWithNobody(peer, ours string) bool {
	return strings.HasPrefix(peer, "409 ") && strings.Contains(peer, `conflict with \"before-first-apply\" with subresource \"scale\"`) && (strings.HasPrefix(ours, "200 ") || strings.HasPrefix(ours, "422 "))
}

// withoutScalers takes from all managedFields what was written by the scale subresource.
func withoutScalers(docs []map[string]any) {
	for _, d := range docs {
		dropScalers(d)
	}
}

func dropScalers(v any) {
	switch v := v.(type) {
	case map[string]any:
		if fields, ok := v["managedFields"].([]any); ok {
			v["managedFields"] = slices.DeleteFunc(fields, func(f any) bool {
				m, _ := f.(map[string]any)
				return m["subresource"] == "scale"
			})
		}
		for _, in := range v {
			dropScalers(in)
		}
	case []any:
		for _, in := range v {
			dropScalers(in)
		}
	}
}

// sameBut tells answers of one code whose bodies differ, where the peer's matches.
func sameBut(code, peers string) func(peer, ours string) bool {
	re := regexp.MustCompile(peers)
	return func(peer, ours string) bool {
		return strings.HasPrefix(peer, code+" ") && strings.HasPrefix(ours, code+" ") && re.MatchString(peer)
	}
}

// answerOf splits an answer into its head and the documents of its body, nil if that is no JSON.
func answerOf(answer string) (head string, docs []map[string]any) {
	at := strings.Index(answer, "\n{")
	if at < 0 {
		return answer, nil
	}
	d := json.NewDecoder(strings.NewReader(answer[at:]))
	for d.More() {
		var doc map[string]any
		if d.Decode(&doc) != nil {
			return answer, nil
		}
		docs = append(docs, doc)
	}
	return answer[:at], docs
}

// sameDocs tells whether answers are the same after both were changed. Documents that are emptied are left out.
func sameDocs(peer, ours string, changePeers, changeOurs func([]map[string]any)) bool {
	head, a := answerOf(peer)
	other, b := answerOf(ours)
	if a == nil || b == nil || head != other {
		return false
	}
	changePeers(a)
	changeOurs(b)
	empty := func(doc map[string]any) bool { return len(doc) == 0 }
	x, err := json.Marshal(slices.DeleteFunc(a, empty))
	y, err2 := json.Marshal(slices.DeleteFunc(b, empty))
	return err == nil && err2 == nil && bytes.Equal(renumbered(x), renumbered(y))
}

var revision = regexp.MustCompile(`u003crevision \d+\\u003e`)

// renumbered numbers the symbols of revisions as they first appear.
func renumbered(b []byte) []byte {
	seen := map[string]string{}
	return revision.ReplaceAllFunc(b, func(s []byte) []byte {
		if _, ok := seen[string(s)]; !ok {
			seen[string(s)] = "r" + strconv.Itoa(len(seen)+1)
		}
		return []byte(seen[string(s)])
	})
}

// deletedAtOnce takes from the events of a watch what tells that a deletion without a grace period has begun: the event of it, and the marks in the
// DELETED event.
func deletedAtOnce(events []map[string]any) {
	for i, e := range events {
		if e["type"] != "DELETED" {
			continue
		}
		if i > 0 && events[i-1]["type"] == "MODIFIED" && begun(events[i-1]) {
			clear(events[i-1])
		}
		if meta := metaOf(e); meta != nil && begun(e) {
			delete(meta, "deletionTimestamp")
			delete(meta, "deletionGracePeriodSeconds")
			if n, ok := meta["generation"].(float64); ok {
				meta["generation"] = n - 1
			}
			if row := rowOf(e); row != nil {
				if cells, ok := row["cells"].([]any); ok && len(cells) > 2 && cells[2] == "Terminating" {
					cells[2] = "Pending"
				}
			}
		}
	}
}

// begun tells whether an event's object is being deleted without a grace period.
func begun(e map[string]any) bool {
	meta := metaOf(e)
	return meta["deletionTimestamp"] != nil && meta["deletionGracePeriodSeconds"] == 0.0
}

// rowOf is the row of an event of a Table, nil if it is none.
func rowOf(e map[string]any) map[string]any {
	o, _ := e["object"].(map[string]any)
	rows, _ := o["rows"].([]any)
	if len(rows) != 1 {
		return nil
	}
	row, _ := rows[0].(map[string]any)
	return row
}

// metaOf is the metadata of an event's object, or of that of its row.
func metaOf(e map[string]any) map[string]any {
	o, _ := e["object"].(map[string]any)
	if row := rowOf(e); row != nil {
		o, _ = row["object"].(map[string]any)
	}
	meta, _ := o["metadata"].(map[string]any)
	return meta
}

// causes are the causes of a Status, sorted, each once.
func causes(answer string) []string {
	_, doc, ok := strings.Cut(answer, "\n{")
	if !ok {
		return nil
	}
	var st struct {
		Details struct {
			Causes []struct{ Reason, Message, Field string }
		}
	}
	if json.Unmarshal([]byte("{"+doc), &st) != nil {
		return nil
	}
	var out []string
	for _, c := range st.Details.Causes {
		out = append(out, c.Field+" "+c.Reason+" "+c.Message)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// without is an answer without the lines that match and without what a missing line changes: blanks and commas at the ends of lines.
func without(answer string, lines ...string) string {
	var drop []*regexp.Regexp
	for _, l := range lines {
		drop = append(drop, regexp.MustCompile(`^\s*`+l+`$`))
	}
	var out []string
	for line := range strings.Lines(answer) {
		line = strings.TrimSpace(line)
		if !slices.ContainsFunc(drop, func(re *regexp.Regexp) bool { return re.MatchString(line) }) {
			out = append(out, strings.TrimSuffix(line, ","))
		}
	}
	return strings.Join(out, "\n")
}
