package api

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"reconcile/api/openapi"
	"reconcile/object"
)

// The documents of Kubernetes' kinds stand ready in package openapi. For kinds of our own they hold paths only: kubectl reads them to
// learn that PATCH of a kind knows fieldValidation, and leaves validation to the server.

type doc map[string]any

// openAPIDocs are the documents by their names in the index ("api/v1", "apis/apps/v1"), as gzip, and their hashes.
type openAPIDocs struct {
	index map[string]string
	own   map[string][]byte
}

func newOpenAPI(kinds []object.Kind) (openAPIDocs, error) {
	d := openAPIDocs{own: map[string][]byte{}}
	var err error
	if d.index, err = openapi.Hashes(); err != nil {
		return d, err
	}
	for _, gv := range groupVersions(kinds) {
		name := strings.TrimPrefix(gvPath(gv), "/")
		if _, ok := d.index[name]; ok {
			continue
		}
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
			return d, err
		}
		sum := sha256.Sum256(b)
		d.index[name] = strings.ToUpper(hex.EncodeToString(sum[:]))
		if d.own[name], err = gzipped(b); err != nil {
			return d, err
		}
	}
	return d, nil
}

func gzipped(b []byte) ([]byte, error) {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
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

// serveOpenAPI serves the index of v3 (name is empty) or one document.
func (s *Server) serveOpenAPI(w http.ResponseWriter, r *http.Request, name string) error {
	if name != "" {
		b, ok := s.openapi.own[name]
		if !ok {
			b, ok = openapi.V3(name)
		}
		if !ok {
			return notServed()
		}
		tag := s.openapi.index[name]
		switch asked := r.URL.Query().Get("hash"); asked {
		case "":
		case tag: // what this path names does not change, ever
			w.Header().Set("Cache-Control", "public, immutable")
			w.Header().Set("Expires", s.cfg.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat))
		default:
			http.Redirect(w, r, pathOfSchema(name, tag), http.StatusMovedPermanently)
			return nil
		}
		if unchanged(w, r, tag) {
			return nil
		}
		return sendGzip(w, r, mediaJSON, b)
	}
	index := doc{}
	for gv, hash := range s.openapi.index {
		index[gv] = doc{"serverRelativeURL": pathOfSchema(gv, hash)}
	}
	return sendJSON(w, r, doc{"paths": index})
}

// pathOfSchema is where the document of a group version is, as it is now.
func pathOfSchema(name, hash string) string { return "/openapi/v3/" + name + "?hash=" + hash }

// mediaOpenAPI is the protobuf form of the v2 document.
const mediaOpenAPI = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"

// serveOpenAPIv2 serves the one document of OpenAPI v2.
func (s *Server) serveOpenAPIv2(w http.ResponseWriter, r *http.Request) error {
	accept := r.Header.Get("Accept")
	proto := strings.Contains(accept, "application/com.github.proto-openapi.spec.v2") && !strings.HasPrefix(accept, mediaJSON)
	b, err := openapi.V2(proto)
	if err != nil {
		return err
	}
	media := mediaJSON
	if proto {
		media = mediaOpenAPI
	}
	if unchanged(w, r, tagOf(b)) {
		return nil
	}
	return sendGzip(w, r, media, b)
}

// sendGzip answers with bytes that are compressed already, as they are if the client takes them so.
func sendGzip(w http.ResponseWriter, r *http.Request, media string, b []byte) error {
	h := w.Header()
	h.Add("Vary", "Accept-Encoding")
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		send(w, r, http.StatusOK, media, b)
		return nil
	}
	zr, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return err
	}
	plain, err := io.ReadAll(zr)
	if err != nil {
		return err
	}
	send(w, r, http.StatusOK, media, plain)
	return nil
}
