package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestEnums looks at fields that take few values: of a structure, of a list, and of a structure that others share.
func TestEnums(t *testing.T) {
	dir, err := specs()
	if err != nil {
		t.Fatal(err)
	}
	few, err := readEnums(dir)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := v3(dir, "api/v1", map[string]bool{"pods": true, "persistentvolumeclaims": true}, few)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct {
					Description string
					Enum        []string
					Items       struct{ Enum []string }
				}
			}
		}
	}
	if err := json.Unmarshal(doc, &got); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ schema, field, enum, items, says string }{
		{"PodSpec", "restartPolicy", "Always Never OnFailure", "", "- `\"OnFailure\"`"},
		{"PersistentVolumeClaimSpec", "accessModes", "", "ReadOnlyMany ReadWriteMany ReadWriteOnce ReadWriteOncePod", ""},
		{"Toleration", "effect", "NoExecute NoSchedule PreferNoSchedule", "", "- `\"NoExecute\"`"},
		{"PodSpec", "nodeName", "", "", ""},
	} {
		f := got.Components.Schemas["io.k8s.api.core.v1."+c.schema].Properties[c.field]
		if strings.Join(f.Enum, " ") != c.enum || strings.Join(f.Items.Enum, " ") != c.items || !strings.Contains(f.Description, c.says) {
			t.Errorf("%s.%s: enum %v, of items %v, want %q and %q; description: %s", c.schema, c.field, f.Enum, f.Items.Enum, c.enum, c.items, f.Description)
		}
	}
}
