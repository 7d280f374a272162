package runtime

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Runtime makes, watches and ends sandboxes and containers. Host is the real one, Fake the semantic fake; runtimetest holds the
// suite that both pass. All methods may be called from several goroutines; those on one container are serialised.
type Runtime interface {
	// CreateSandbox makes a pod's namespaces, cgroup and /dev/shm. It is idempotent: a living sandbox is returned as it is.
	CreateSandbox(ctx context.Context, c SandboxConfig) (Sandbox, error)
	// RemoveSandbox kills and removes the pod's containers, then the sandbox. It is idempotent, and keeps nothing but an error.
	RemoveSandbox(ctx context.Context, podUID string) error
	// Sandboxes returns every sandbox known on disk, ordered by pod UID.
	Sandboxes(ctx context.Context) ([]Sandbox, error)
	// Start creates and starts a container. An error means that nothing of it is left but its log directory; a StartError
	// tells that the container's own configuration is at fault (no such command).
	Start(ctx context.Context, c ContainerConfig) (Container, error)
	// Signal sends a signal to the container's first process. A container that has exited is no error.
	Signal(ctx context.Context, id string, sig os.Signal) error
	// Remove kills what is left of a container and removes its state; the log stays until the sandbox goes.
	Remove(ctx context.Context, id string) error
	// List returns every container known on disk, running or exited, ordered by ID.
	List(ctx context.Context) ([]Container, error)
	// Exec runs a command in a running container and blocks until it ends. The code is the command's; an error means that it
	// did not run or was cut off by ctx.
	Exec(ctx context.Context, id string, e ExecConfig) (code int, err error)
	// Attach connects streams to the container's first process and blocks until it ends or ctx does.
	Attach(ctx context.Context, id string, s Streams) error
	// Stats reads the container's cgroup.
	Stats(ctx context.Context, id string) (Stats, error)
	// Events returns the channel on which each end of a container is told, once, by pod UID. It is closed by Close only.
	Events() <-chan Event
	// Close stops watching. It touches no container.
	Close() error
}

var (
	// ErrNotFound says that no such container or sandbox is known.
	ErrNotFound = errors.New("not found")
	// ErrNotRunning says that the container has exited.
	ErrNotRunning = errors.New("container is not running")
	// ErrNoHelper says that the binary was built without the runtime helper.
	ErrNoHelper = errors.New("this binary was built without the runtime helper; run make build")
)

// StartError is a failed start whose cause lies in the container's configuration, such as a command that is not in the image.
type StartError struct{ Message string }

// Error implements error.
func (e *StartError) Error() string { return e.Message }

// SandboxConfig is what a pod shares among its containers.
type SandboxConfig struct {
	PodUID, Namespace, Name string
	// Hostname is set in the pod's UTS namespace. Empty keeps the host's.
	Hostname string
	// HostNetwork, HostIPC keep the agent's own namespaces.
	HostNetwork, HostIPC bool
	// QoS is "guaranteed", "burstable" or "besteffort": the branch of the cgroup tree.
	QoS string
	// Resources are the limits of the pod as a whole.
	Resources Resources
	// ShmBytes is the size of /dev/shm; 0 is 64 MiB.
	ShmBytes int64
}

// Sandbox is a pod's sandbox as it stands.
type Sandbox struct {
	Config SandboxConfig
	// Dir is the pod's folder for whatever else belongs to it (volumes, /etc/hosts). It goes with the sandbox.
	Dir string
	// NetNS is the path of the pinned network namespace, empty with HostNetwork.
	NetNS string
	// Shm is the folder to bind at /dev/shm.
	Shm string
	// Alive tells whether the namespaces are still pinned (they are not after a reboot).
	Alive   bool
	Created time.Time
}

// Resources are cgroup limits. Zero values set no limit.
type Resources struct {
	// CPUShares as in cgroup v1 (2 to 262144); on v2 it is converted to a weight.
	CPUShares uint64
	// CPUQuota in microseconds of each CPUPeriod (0 = 100 ms).
	CPUQuota  int64
	CPUPeriod uint64
	// Memory in bytes.
	Memory int64
	// Pids is the greatest number of tasks.
	Pids int64
	// OOMScoreAdj as Kubernetes computes it. What the kernel refuses to this process is clamped.
	OOMScoreAdj int
}

// Mount is one bind mount of a container.
type Mount struct {
	// Source is a path on the host; SubPath is resolved below it without leaving it, and opened when the container starts.
	Source, SubPath string
	Target          string
	ReadOnly        bool
	// Propagation is "", "HostToContainer" or "Bidirectional".
	Propagation string
}

// ContainerConfig is everything that makes a container. It is stored as JSON and is not changed after Start.
type ContainerConfig struct {
	// ID is unique on the machine and chosen by the caller: at most 64 of [a-z0-9-].
	ID     string
	PodUID string
	// Name and Attempt are the container's name in the pod and the number of the try, from 0.
	Name    string
	Attempt int
	// Hash is of the caller's spec, so that a change can be seen.
	Hash string

	// ImageID and Image are the image's digest and name, for List.
	ImageID, Image string
	// LayerBase is a folder with short names of layer folders, and Layers those names, top first. Overlay is mounted of them.
	LayerBase string
	Layers    []string

	Args []string
	Env  []string
	Cwd  string
	// User is "", "uid", "name", "uid:gid" or "name:group", as an image says it; names are looked up in the image.
	User string
	// Groups are supplementary.
	Groups []int64

	Mounts         []Mount
	ReadOnlyRootFS bool
	Privileged     bool
	// CapAdd and CapDrop change the default set; names without "CAP_"; "ALL" is all.
	CapAdd, CapDrop []string
	NoNewPrivileges bool
	// Seccomp is "" (the default profile), "Unconfined" or the path of a profile.
	Seccomp string
	Sysctls map[string]string
	Devices []specs.LinuxDevice
	// UnmaskProc leaves /proc unmasked (procMount: Unmasked).
	UnmaskProc bool
	// HostPID keeps the host's process namespace.
	HostPID bool

	Resources Resources

	Stdin, StdinOnce, TTY bool
	// StopSignal is the image's, for the caller's use ("" is SIGTERM).
	StopSignal string
	// TerminationLog is the path in the container of the file that the container may leave a message in. Empty is none.
	TerminationLog string
	// MessageFromLog makes the end of the output the message of a container that failed and left none.
	MessageFromLog bool
	// LogPath is the file that gets the output in the CRI format. Empty discards it.
	LogPath string
	// Labels are kept for the caller.
	Labels map[string]string
}

// State of a container.
type State string

// The states of a container.
const (
	Running State = "running"
	Exited  State = "exited"
)

// Container is one container as it stands.
type Container struct {
	Config ContainerConfig
	State  State
	// PID is of the container's first process while it runs.
	PID     int
	Started time.Time
	// Exit is set when State is Exited.
	Exit *Exit
	// OOMKills is how often the kernel killed for lack of memory in it (v1: oom_kill; v2: memory.events).
	OOMKills int
}

// Exit is how a container ended.
type Exit struct {
	// Code is the exit code, 128 + the signal's number for a signal.
	Code   int `json:"code"`
	Signal int `json:"signal,omitempty"`
	// OOMKilled is true when the code is 137 and the cgroup counted an OOM kill.
	OOMKilled bool      `json:"oomKilled,omitempty"`
	Started   time.Time `json:"startedAt"`
	Finished  time.Time `json:"finishedAt"`
	// Reason is set when the end was not the process's own: "ShimDied", "Rebooted", "StartError".
	Reason string `json:"reason,omitempty"`
	// Message is what the container left in its TerminationLog, at most 4096 bytes, or the end of its output.
	Message string `json:"message,omitempty"`
}

// Event tells that a container of a pod ended.
type Event struct {
	PodUID, ContainerID string
}

// Size is of a terminal.
type Size struct{ Width, Height uint16 }

// Streams are a client's ends. Nil ones are not connected. Resize is nil or closed by the caller when done.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Resize         <-chan Size
}

// ExecConfig is a command to run in a container with the container's environment, user and limits.
type ExecConfig struct {
	Args []string
	TTY  bool
	Streams
}

// Stats are counters and gauges of one container.
type Stats struct {
	At time.Time
	// CPU is the time used since the start.
	CPU time.Duration
	// MemoryUsage and MemoryWorkingSet in bytes, as Kubernetes computes them (usage minus inactive file pages).
	MemoryUsage, MemoryWorkingSet uint64
	Pids                          uint64
}
