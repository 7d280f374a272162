// Package bundle is the JSON that passes between the runtime and its helper: config.json, state.json and the requests of exec.
//
// It knows nothing else. How data passes through: the runtime writes a Bundle, the helper runs it and writes a State.
package bundle

import (
	"encoding/json"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Bundle is config.json: the caller's configuration, which the helper does not read, and what the helper does with it.
type Bundle struct {
	Container json.RawMessage `json:"container"`
	Helper    Helper          `json:"helper"`
	Spec      *specs.Spec     `json:"spec"`
}

// Helper is what the helper does beyond the spec.
type Helper struct {
	Shim      string   `json:"shim"`
	LayerBase string   `json:"layerBase,omitempty"`
	Layers    []string `json:"layers,omitempty"`
	// User is resolved in the image's own /etc/passwd and /etc/group.
	User   string  `json:"user,omitempty"`
	Groups []int64 `json:"groups,omitempty"`
	// SubPaths are bound below the container's folder before the start: Spec.Mounts[Mount].Source is replaced.
	SubPaths []SubPath `json:"subPaths,omitempty"`

	LogPath     string `json:"logPath,omitempty"`
	LogMaxBytes int64  `json:"logMaxBytes,omitempty"`
	LogMaxFiles int    `json:"logMaxFiles,omitempty"`
	// OOMFile counts OOM kills; ShimCgroups are cgroup.procs files that the shim moves itself to.
	OOMFile     string   `json:"oomFile,omitempty"`
	ShimCgroups []string `json:"shimCgroups,omitempty"`

	TTY       bool `json:"tty,omitempty"`
	Stdin     bool `json:"stdin,omitempty"`
	StdinOnce bool `json:"stdinOnce,omitempty"`
}

// SubPath is one volume's path that must not lead out of the volume.
type SubPath struct {
	Mount    int    `json:"mount"`
	Root     string `json:"root"`
	Path     string `json:"path"`
	ReadOnly bool   `json:"readOnly,omitempty"`
}

// State is state.json: who runs the container. Start times are field 22 of /proc/PID/stat.
type State struct {
	PID       int    `json:"pid"`
	PIDStart  uint64 `json:"pidStart"`
	Shim      int    `json:"shim"`
	ShimStart uint64 `json:"shimStart"`
	BootID    string `json:"bootID"`
	// Started is Unix time in nanoseconds.
	Started int64 `json:"started"`
}

// ExecRequest is what `helper exec` runs.
type ExecRequest struct {
	Args   []string `json:"args"`
	TTY    bool     `json:"tty,omitempty"`
	Width  uint16   `json:"width,omitempty"`
	Height uint16   `json:"height,omitempty"`
}

// ExecResult is what `helper exec` answers on StatusFD.
type ExecResult struct {
	Code  int    `json:"code"`
	Error string `json:"error,omitempty"`
}
