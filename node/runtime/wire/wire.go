// Package wire is what the runtime, its helper and its shim say to each other: file names, file descriptors and
// frames. It imports nothing, so that the shim stays small; what is said in JSON is in package bundle.
//
// How data passes through: the runtime writes config.json and runs `helper run`; the helper answers on descriptor
// StatusFD, writes state.json and becomes the shim, which gets its orders as arguments and writes exit.json.
package wire

// Names of the files in a container's folder.
const (
	ConfigFile = "config.json"
	StateFile  = "state.json"
	ExitFile   = "exit.json"
	HelperLog  = "helper.log"
	RootFS     = "rootfs"
	AttachSock = "attach.sock"
	// LibcontainerID is the name under which libcontainer keeps its state below the container's folder.
	LibcontainerID = "lc"
	// TerminationLog is the file that is bound over the container's termination log.
	TerminationLog = "termination-log"
)

// File descriptors of the helper and the shim. The shim's are high because Go's runtime may hold low ones.
const (
	// StatusFD of the helper takes "ok" or an error's text; it closes when the helper becomes the shim.
	StatusFD = 3
	// RequestFD of `helper exec` holds the ExecRequest, ConsoleFD the socket that gets the terminal's master.
	RequestFD = 4
	ConsoleFD = 5

	ShimStdout = 20
	ShimStderr = 21
	ShimStdin  = 22
	ShimAttach = 23
)

// OK is the status of a started container.
const OK = "ok"

// Kinds of a frame on the attach socket: one byte kind, four bytes length (big endian), the data.
const (
	FrameStdin  = 0
	FrameStdout = 1
	FrameStderr = 2
	FrameEOF    = 3
	FrameResize = 4 // two big-endian uint16: width, height
)

// FrameHeader is the length of a frame's head in bytes.
const FrameHeader = 5
