package faulttest

// The kinds of operations.
const (
	opGet    = "get"
	opPut    = "put"
	opCAS    = "cas"
	opDelete = "delete"
)

// input is one operation on one key.
type input struct {
	Kind  string `json:"kind"`
	Key   string `json:"key"`
	Value string `json:"value,omitempty"`
	// Expect is what a cas compares with; "" is an absent key. No client writes "".
	Expect string `json:"expect,omitempty"`
}

// output is a member's answer.
type output struct {
	// Value is what a get saw; "" is an absent key.
	Value string `json:"value,omitempty"`
	// Rev is the revision of a write.
	Rev uint64 `json:"rev,omitempty"`
	// Stale tells that a cas found another value.
	Stale bool `json:"stale,omitempty"`
	// Failed says why nothing was done; Unknown why nobody knows.
	Failed  string `json:"failed,omitempty"`
	Unknown string `json:"unknown,omitempty"`
}

// event is one line of a watch. A line without a key only tells that the watch is complete up to Rev.
type event struct {
	Rev     uint64 `json:"rev"`
	Key     string `json:"key,omitempty"`
	Value   string `json:"value,omitempty"`
	Deleted bool   `json:"deleted,omitempty"`
	// Gone tells that the history does not reach back to where the watch was to begin.
	Gone bool `json:"gone,omitempty"`
}

// Status is what a member tells of itself.
type Status struct {
	ID     string `json:"id"`
	Leader string `json:"leader"`
	Self   bool   `json:"self"`
	Term   uint64 `json:"term"`
	Rev    uint64 `json:"rev"`
	// Digest is over all keys with values and revisions, if it was asked for.
	Digest string `json:"digest,omitempty"`
	// Hits is how often each failpoint was passed.
	Hits map[string]int `json:"hits,omitempty"`
}

// memberConfig is what a member process is told, in the variable memberVariable.
type memberConfig struct {
	ID      string `json:"id"`
	Dir     string `json:"dir"`
	Address string `json:"address"`
	// Peers are the IP addresses of the first members by their IDs; empty for one that joins. Fresh is set at the first start only.
	Peers map[string]string `json:"peers,omitempty"`
	Fresh bool              `json:"fresh,omitempty"`
	// HeartbeatMillis and the two numbers are those of raftstore.Config.
	HeartbeatMillis int    `json:"heartbeatMillis"`
	SnapshotEntries uint64 `json:"snapshotEntries"`
	TrailingEntries uint64 `json:"trailingEntries"`
}

const memberVariable = "RECONCILE_FAULTTEST_MEMBER"

// The ports of every member; each has an IP address of its own.
const (
	raftPort = "7000"
	rpcPort  = "7001"
)

// servingLine is what a member prints when its ports answer.
const servingLine = "serving"

// keyPrefix begins the keys of all clients.
const keyPrefix = "/kv/"
