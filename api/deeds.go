package api

import (
	"net/http"

	"reconcile/object"
)

// deed is a way to serve subresources: the kinds say which they have (object.Kind.Subresources).
type deed struct {
	// verbs are what discovery tells.
	verbs    []string
	handlers func(*Server) map[string]resourceHandler
	// long tells that it stays open for as long as it is wanted.
	long bool
}

var (
	verbsStream = []string{"create", "get"}
	// verbsProxy are what a proxy passes on: every method.
	verbsProxy = []string{"create", "delete", "get", "patch", "update"}
)

// deeds has every one that a kind may name.
var deeds = map[object.Deed]deed{
	object.Writes: {verbsStatus, func(s *Server) map[string]resourceHandler {
		return map[string]resourceHandler{http.MethodGet: s.get, http.MethodPut: s.update, http.MethodPatch: s.patch}
	}, false},
	object.Replaces: {[]string{"update"}, func(s *Server) map[string]resourceHandler {
		return map[string]resourceHandler{http.MethodPut: s.update}
	}, false},
	object.Proxies: {verbsProxy, func(s *Server) map[string]resourceHandler {
		return map[string]resourceHandler{
			http.MethodGet: s.proxy, http.MethodHead: s.proxy, http.MethodPost: s.proxy, http.MethodPut: s.proxy,
			http.MethodPatch: s.proxy, http.MethodDelete: s.proxy, http.MethodOptions: s.proxy,
		}
	}, true},
	object.Logs:     {[]string{"get"}, func(s *Server) map[string]resourceHandler { return map[string]resourceHandler{http.MethodGet: s.logs} }, true},
	object.Executes: {verbsStream, tunnels("exec"), true},
	object.Attaches: {verbsStream, tunnels("attach"), true},
	object.Forwards: {verbsStream, tunnels("portForward"), true},
	object.Binds:    posts(func(s *Server) resourceHandler { return s.bind }),
	object.Evicts:   posts(func(s *Server) resourceHandler { return s.evict }),
	object.Signs:    posts(func(s *Server) resourceHandler { return s.requestToken }),
}

// posts serves what is asked for by sending something.
func posts(handler func(*Server) resourceHandler) deed {
	return deed{[]string{"create"}, func(s *Server) map[string]resourceHandler {
		return map[string]resourceHandler{http.MethodPost: handler(s)}
	}, false}
}

// tunnels serves a subresource whose connection is tunnelled to the agent under a kubelet's path.
func tunnels(path string) func(*Server) map[string]resourceHandler {
	return func(s *Server) map[string]resourceHandler {
		h := func(w http.ResponseWriter, r *http.Request, t target) error { return s.stream(w, r, t, path) }
		return map[string]resourceHandler{http.MethodGet: h, http.MethodPost: h}
	}
}
