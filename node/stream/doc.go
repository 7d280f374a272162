// Package stream is the node's HTTPS endpoint: logs, exec, attach and what is used, under the paths of a kubelet.
//
// It owns the wire: WebSocket v5 and v4, SPDY v4, chunked logs, and who may call. It knows no runtime: a Backend, declared
// here, finds containers and runs commands.
//
// How data passes through: the API server, with its client certificate, proxies a user's request to here; a handler turns it
// into Streams and gives them to the Backend; exit codes go back as Kubernetes' Status.
package stream
