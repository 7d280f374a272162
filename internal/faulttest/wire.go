package faulttest

// The kinds of operations. The first four are raw writes and reads by the sequencer; opEtcd… go over the etcd API, opPair… too, on two keys that
// are only written together; opObject… are those of the Kubernetes API on a ConfigMap.
const (
	opGet       = "get"
	opPut       = "put"
	opCAS       = "cas"
	opDelete    = "delete"
	opEtcdGet   = "etcd-get"
	opEtcdTxn   = "etcd-txn"
	opPairGet   = "pair-get"
	opPairTxn   = "pair-txn"
	opObjectGet = "object-get"
	opObjectSet = "object-set"
)

// input is one operation on one key, or pair of keys.
type input struct {
	Kind string `json:"kind"`
	Key  string `json:"key"`
	// Value is what is written; "" deletes.
	Value string `json:"value,omitempty"`
	// Expect is what a write compares with (but opPut and opDelete); "" is an absent key. No client writes "".
	Expect string `json:"expect,omitempty"`
	// Version is the resourceVersion that Expect was read with.
	Version string `json:"version,omitempty"`
}

func (in input) writes() bool {
	switch in.Kind {
	case opGet, opEtcdGet, opPairGet, opObjectGet:
		return false
	}
	return true
}

// deletes tells whether a write removes the key.
func (in input) deletes() bool { return in.writes() && in.Value == "" }

// overEtcd tells whether the operation goes over the etcd API.
func (in input) overEtcd() bool {
	switch in.Kind {
	case opEtcdGet, opEtcdTxn, opPairGet, opPairTxn:
		return true
	}
	return false
}

// keys are the keys in the store.
func (in input) keys() []string {
	if in.Kind == opPairGet || in.Kind == opPairTxn {
		return []string{in.Key + "/a", in.Key + "/b"}
	}
	return []string{in.Key}
}

// output is a member's answer.
type output struct {
	// Value is what was seen; "" is an absent key.
	Value string `json:"value,omitempty"`
	// Version is the object's resourceVersion.
	Version string `json:"version,omitempty"`
	// Rev is the revision of a write.
	Rev uint64 `json:"rev,omitempty"`
	// Stale tells that a write that compares found another value: Value, over the etcd API.
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
	etcdPort = "7002"
)

// servingLine is what a member prints when its ports answer.
const servingLine = "serving"

// keyPrefix begins the keys that are watched, pairPrefix those of pairs.
const (
	keyPrefix  = "/kv/"
	pairPrefix = "/pair/"
)
