package controller

import (
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// span is a run of indexes, both ends included.
type span struct{ first, last int }

// indexSet is a set of completion indexes: spans in order, which neither overlap nor touch. A value is not changed once made.
type indexSet []span

// parseIndexes reads a set as a Job's status writes it ("1,3-5"). Parts that are no numbers are left out, as are indexes from limit on.
func parseIndexes(text string, limit int) indexSet {
	var spans []span
	for part := range strings.SplitSeq(text, ",") {
		from, to, isSpan := strings.Cut(part, "-")
		first, err := strconv.Atoi(from)
		if err != nil || first < 0 || first >= limit {
			continue
		}
		last := first
		if isSpan {
			if last, err = strconv.Atoi(to); err != nil || last < first {
				continue
			}
		}
		spans = append(spans, span{first, min(last, limit-1)})
	}
	return indexSet(nil).union(spans)
}

// union returns the indexes of both sets; more need not be in order.
func (s indexSet) union(more []span) indexSet {
	all := slices.Concat(s, more)
	slices.SortFunc(all, func(a, b span) int { return a.first - b.first })
	var out indexSet
	for _, x := range all {
		if n := len(out); n > 0 && x.first <= out[n-1].last+1 {
			out[n-1].last = max(out[n-1].last, x.last)
		} else {
			out = append(out, x)
		}
	}
	return out
}

// with returns the set with the indexes added.
func (s indexSet) with(indexes ...int) indexSet {
	more := make([]span, len(indexes))
	for i, x := range indexes {
		more[i] = span{x, x}
	}
	return s.union(more)
}

func (s indexSet) has(x int) bool {
	_, found := slices.BinarySearchFunc(s, x, func(sp span, x int) int {
		switch {
		case sp.last < x:
			return -1
		case sp.first > x:
			return 1
		}
		return 0
	})
	return found
}

// total is the number of indexes in the set.
func (s indexSet) total() int {
	n := 0
	for _, x := range s {
		n += x.last - x.first + 1
	}
	return n
}

// common is the number of indexes that are in both sets.
func (s indexSet) common(t indexSet) int {
	n := 0
	for i, j := 0, 0; i < len(s) && j < len(t); {
		n += max(0, min(s[i].last, t[j].last)-max(s[i].first, t[j].first)+1)
		if s[i].last < t[j].last {
			i++
		} else {
			j++
		}
	}
	return n
}

// missing are the first n indexes below limit that are not in the set.
func (s indexSet) missing(n, limit int) []int {
	var out []int
	next := 0
	for _, x := range append(slices.Clip(s), span{limit, limit}) {
		for ; next < x.first && next < limit && len(out) < n; next++ {
			out = append(out, next)
		}
		next = max(next, x.last+1)
	}
	return out
}

// String writes the set as a Job's status does: two neighbours with a comma, more with a dash.
func (s indexSet) String() string {
	var parts []string
	for _, x := range s {
		switch x.last {
		case x.first:
			parts = append(parts, strconv.Itoa(x.first))
		case x.first + 1:
			parts = append(parts, strconv.Itoa(x.first), strconv.Itoa(x.last))
		default:
			parts = append(parts, strconv.Itoa(x.first)+"-"+strconv.Itoa(x.last))
		}
	}
	return strings.Join(parts, ",")
}

// indexOf is the completion index of a pod, -1 if it has none.
func indexOf(p *corev1.Pod) int {
	n, err := strconv.Atoi(p.Annotations[batchv1.JobCompletionIndexAnnotation])
	if err != nil || n < 0 {
		return -1
	}
	return n
}

func indexesOf(pods []*corev1.Pod) []int {
	var out []int
	for _, p := range pods {
		if x := indexOf(p); x >= 0 {
			out = append(out, x)
		}
	}
	return out
}

// validIndex tells whether a pod has an index that its Job asks for; the pods of a Job without indexes all have.
func validIndex(j *batchv1.Job, p *corev1.Pod) bool {
	if !indexed(j) {
		return true
	}
	x := indexOf(p)
	return x >= 0 && x < int(*j.Spec.Completions)
}
