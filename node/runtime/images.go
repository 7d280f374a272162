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
	err := eachLiving(root, func(c ContainerConfig) {
		out[c.ImageID] = append(out[c.ImageID], fmt.Sprintf("container %s of pod %s", c.Name, c.PodUID))
	})
	return out, err
}

// LayersMounted reads in the same way the short names of the layers that containers have mounted.
func LayersMounted(root string) (map[string]bool, error) {
	out := map[string]bool{}
	err := eachLiving(root, func(c ContainerConfig) {
		for _, l := range c.Layers {
			out[l] = true
		}
	})
	return out, err
}

// eachLiving calls f with every container on disk that has not ended.
func eachLiving(root string, f func(ContainerConfig)) error {
	entries, err := os.ReadDir(filepath.Join(root, "containers"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
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
			f(own.Config)
		}
	}
	return nil
}
