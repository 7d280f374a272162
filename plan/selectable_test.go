package plan

import (
	"fmt"
	"testing"
)

// TestSelectable: of the labels of pods, those that services ask for count, and each set of them once.
func TestSelectable(t *testing.T) {
	var pods []map[string]string
	for i := range 4 {
		pods = append(pods, map[string]string{"app": fmt.Sprint("web", i%2), "index": fmt.Sprint(i)})
	}
	pods = append(pods, nil)
	if got := fmt.Sprint(selectable(pods, map[string]bool{"app": true, "tier": true})); got != "[app=web0 app=web1 ]" {
		t.Error(got)
	}
}
