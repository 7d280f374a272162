package manifests

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// failsOnce is a machine that has no time for the first evaluation, and then has.
type failsOnce struct {
	Evaluator
	failed bool
}

// Evaluate implements Evaluator.
func (f *failsOnce) Evaluate(ctx context.Context, request []byte, each func([]byte) error) error {
	if !f.failed {
		f.failed = true
		return errors.New("evaluating this CUE takes longer than 10s; it was stopped")
	}
	return f.Evaluator.Evaluate(ctx, request, each)
}

// TestStoppedIsNoVerdict: that an evaluation was stopped says something about the machine just then, and is not kept as a verdict on the
// content: the same tree is fine when there is time.
func TestStoppedIsNoVerdict(t *testing.T) {
	object := "x: {apiVersion: \"v1\", kind: \"ConfigMap\", metadata: name: \"x\"}\n"
	for name, tree := range map[string]Files{
		"package":          {"a/x.cue": []byte("package a\n" + object)},
		"policy":           {"policy/p.cue": []byte("package p\nkind: string\n"), "x.yaml": []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")},
		"policy of a void": {"policy/p.cue": []byte("package p\nkind: string\n")},
	} {
		t.Run(name, func(t *testing.T) {
			child, err := NewChild()
			if err != nil {
				t.Fatal(err)
			}
			l, err := NewLoader(Config{Evaluator: &failsOnce{Evaluator: child}})
			if err != nil {
				t.Fatal(err)
			}
			first, err := l.Load(t.Context(), tree)
			if err != nil || len(first.Findings) != 1 || !strings.Contains(first.Findings[0].Message, "it was stopped") {
				t.Fatalf("the first load: %+v, err %v", first, err)
			}
			second, err := l.Load(t.Context(), tree)
			if err != nil || len(second.Findings) != 0 {
				t.Errorf("the second load: %v, err %v; want no finding", second.Findings, err)
			}
		})
	}
}
