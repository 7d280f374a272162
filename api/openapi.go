package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"

	"reconcile/object"
)

// The OpenAPI v3 documents hold paths only. kubectl reads them to learn that PATCH of a kind knows fieldValidation: then it leaves
// validation to the server, which does it in full. There is no v2 document: clients that find none use v3.

type doc map[string]any

// newOpenAPI makes the document of each group version, by its name in the index ("api/v1", "apis/apps/v1").
func newOpenAPI(kinds []object.Kind) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, gv := range groupVersions(kinds) {
		paths := doc{}
		for _, k := range kinds {
			if k.GVK.GroupVersion() == gv {
				kindPaths(paths, k)
			}
		}
		b, err := json.Marshal(doc{
			"openapi": "3.0.0", "info": doc{"title": "reconcile", "version": "v1"}, "paths": paths, "components": doc{"schemas": doc{}},
		})
		if err != nil {
			return nil, err
		}
		out[strings.TrimPrefix(gvPath(gv), "/")] = b
	}
	return out, nil
}

// kindPaths adds the paths of one kind.
func kindPaths(paths doc, k object.Kind) {
	base := gvPath(k.GVK.GroupVersion())
	if k.Namespaced {
		base += "/namespaces/{namespace}"
	}
	base += "/" + k.Resource
	gvk := doc{"group": k.GVK.Group, "version": k.GVK.Version, "kind": k.GVK.Kind}
	operation := func(action string, params ...string) doc {
		list := []doc{}
		for _, p := range params {
			list = append(list, doc{"name": p, "in": "query", "schema": doc{"type": "string", "uniqueItems": true}})
		}
		return doc{
			"x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk, "parameters": list,
			"responses": doc{"200": doc{"description": "OK"}},
		}
	}
	paths[base] = doc{
		"get":  operation("list", "labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "watch"),
		"post": operation("post", "dryRun", "fieldManager", "fieldValidation"),
	}
	paths[base+"/{name}"] = doc{
		"get":    operation("get"),
		"put":    operation("put", "dryRun", "fieldManager", "fieldValidation"),
		"patch":  operation("patch", "dryRun", "fieldManager", "fieldValidation", "force"),
		"delete": operation("delete", "dryRun", "gracePeriodSeconds", "propagationPolicy"),
	}
}

// serveOpenAPI serves the index (name is empty) or one document.
func (s *Server) serveOpenAPI(w http.ResponseWriter, r *http.Request, name string) error {
	if name != "" {
		b, ok := s.openapi[name]
		if !ok {
			return notServed()
		}
		send(w, r, http.StatusOK, mediaJSON, b)
		return nil
	}
	index := doc{}
	for gv, b := range s.openapi {
		sum := sha256.Sum256(b)
		index[gv] = doc{"serverRelativeURL": "/openapi/v3/" + gv + "?hash=" + strings.ToUpper(hex.EncodeToString(sum[:]))}
	}
	return sendJSON(w, r, doc{"paths": index})
}
