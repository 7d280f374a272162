package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"reconcile/node/runtime/bundle"
	"reconcile/node/runtime/wire"
)

// ImagesInUse reads, from the state of a runtime at root, which images containers use: image ID to the containers' names. It may
// be called while another process owns the runtime.
func ImagesInUse(root string) (map[string][]string, error) {
	out := map[string][]string{}
	entries, err := os.ReadDir(filepath.Join(root, "containers"))
	if errors.Is(err, os.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		var b bundle.Bundle
		var own stored
		if err := readJSON(filepath.Join(root, "containers", e.Name(), wire.ConfigFile), &b); err != nil {
			continue // being made or removed
		}
		if _, err := os.Stat(filepath.Join(root, "containers", e.Name(), wire.ExitFile)); err == nil {
			continue // ended: its root is unmounted
		}
		if err := json.Unmarshal(b.Container, &own); err == nil {
			out[own.Config.ImageID] = append(out[own.Config.ImageID], fmt.Sprintf("container %s of pod %s", own.Config.Name, own.Config.PodUID))
		}
	}
	return out, nil
}
