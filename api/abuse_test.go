package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"reconcile/api/apitest"
)

// TestBombs sends bodies that are short and would grow: a JSON patch that copies its document into itself again and again, and YAML whose
// aliases name lists of aliases.
func TestBombs(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, apitest.New(), nil)
	c := typed(t, s, false)
	maps := c.CoreV1().ConfigMaps("default")
	if _, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// 14 copies make 16 MB of 1 KB; 40 would not fit into any machine.
	ops := []map[string]any{{"op": "add", "path": "/bomb", "value": map[string]string{"a": strings.Repeat("x", 1<<10)}}}
	for i := range 14 {
		ops = append(ops, map[string]any{"op": "copy", "from": "/bomb", "path": fmt.Sprint("/bomb/", i)})
	}
	patch, err := json.Marshal(ops)
	if err != nil {
		t.Fatal(err)
	}
	_, err = maps.Patch(t.Context(), "c", types.JSONPatchType, patch, metav1.PatchOptions{})
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "accumulated size increase of copy") {
		t.Errorf("a patch of copies: %v", err)
	}
	var doc strings.Builder
	doc.WriteString("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: d}\nx0: &x0 [a,a,a,a,a,a,a,a,a]\n")
	for i := 1; i < 12; i++ {
		fmt.Fprintf(&doc, "x%d: &x%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*x%d,", i-1), 9), ","))
	}
	err = c.CoreV1().RESTClient().Post().AbsPath("/api/v1/namespaces/default/configmaps").SetHeader("Content-Type", "application/yaml").Body([]byte(doc.String())).Do(t.Context()).Error()
	if !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), "excessive aliasing") {
		t.Errorf("YAML of aliases: %v", err)
	}
}
