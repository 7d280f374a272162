package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"

	"reconcile/object"
)

func main() {
	files, err := generate()
	if err == nil {
		err = write("data", files)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func write(dir string, files map[string][]byte) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// virtual are the resources that are served and not stored, by group version.
var virtual = map[string][]string{
	"api/v1":                        {"bindings"},
	"apis/authentication.k8s.io/v1": {"selfsubjectreviews", "tokenreviews"},
	"apis/authorization.k8s.io/v1":  {"localsubjectaccessreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews", "subjectaccessreviews"},
}

type tree = map[string]any

// generate makes every file by its name.
func generate() (map[string][]byte, error) {
	dir, err := specs()
	if err != nil {
		return nil, err
	}
	few, err := readEnums(dir)
	if err != nil {
		return nil, err
	}
	served := map[string]map[string]bool{}
	add := func(gv, resource string) {
		if served[gv] == nil {
			served[gv] = map[string]bool{}
		}
		served[gv][resource] = true
	}
	for _, k := range object.Served() {
		if gv := k.GVK.GroupVersion(); gv.Group == "" {
			add("api/"+gv.Version, k.Resource)
		} else if gv.Group != object.GroupVersion.Group {
			add("apis/"+gv.String(), k.Resource)
		}
	}
	for gv, list := range virtual {
		for _, r := range list {
			add(gv, r)
		}
	}
	files, hashes := map[string][]byte{}, map[string]string{}
	for gv, resources := range served {
		doc, err := v3(dir, gv, resources, few)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(doc)
		hashes[gv] = strings.ToUpper(hex.EncodeToString(sum[:]))
		if files[strings.ReplaceAll(gv, "/", "_")+".json.gz"], err = compressed(doc); err != nil {
			return nil, err
		}
	}
	if files["hashes.json"], err = json.MarshalIndent(hashes, "", "  "); err != nil {
		return nil, err
	}
	return files, v2(dir, served, few, files)
}

// specs is where the module's documents are.
func specs() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes").Output()
	if err != nil {
		return "", fmt.Errorf("find the module k8s.io/kubernetes: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "api", "openapi-spec"), nil
}

func read(path string) (tree, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var doc tree
	return doc, json.Unmarshal(b, &doc)
}

func compressed(b []byte) ([]byte, error) {
	var buf bytes.Buffer
	w, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// v3 cuts the document of one group version.
func v3(dir, gv string, resources map[string]bool, few enums) ([]byte, error) {
	doc, err := read(filepath.Join(dir, "v3", strings.NewReplacer("api/", "api__", "apis/", "apis__", "/", "__").Replace(gv)+"_openapi.json"))
	if err != nil {
		return nil, err
	}
	paths := cutPaths(doc["paths"].(tree), gv, resources)
	schemas := doc["components"].(tree)["schemas"].(tree)
	few.into(schemas)
	return json.Marshal(tree{
		"openapi": doc["openapi"], "info": tree{"title": "reconcile", "version": "v1"}, "paths": paths,
		"components": tree{"schemas": reachable(schemas, paths, "#/components/schemas/")},
	})
}

// v2 cuts the one document of all group versions.
func v2(dir string, served map[string]map[string]bool, few enums, files map[string][]byte) error {
	doc, err := read(filepath.Join(dir, "swagger.json"))
	if err != nil {
		return err
	}
	paths := tree{}
	for gv, resources := range served {
		for p, item := range cutPaths(doc["paths"].(tree), gv, resources) {
			paths[p] = item
		}
	}
	few.into(doc["definitions"].(tree))
	out, err := json.Marshal(tree{
		"swagger": doc["swagger"], "info": tree{"title": "reconcile", "version": "v1"}, "paths": paths,
		"definitions": reachable(doc["definitions"].(tree), paths, "#/definitions/"),
	})
	if err != nil {
		return err
	}
	if files["v2.json.gz"], err = compressed(out); err != nil {
		return err
	}
	parsed, err := openapi_v2.ParseDocument(out)
	if err != nil {
		return fmt.Errorf("read the v2 document: %w", err)
	}
	if out, err = (proto.MarshalOptions{Deterministic: true}).Marshal(parsed); err != nil {
		return err
	}
	files["v2.pb.gz"], err = compressed(out)
	return err
}

// cutPaths keeps the paths of the resources that are served, without prose.
func cutPaths(paths tree, gv string, resources map[string]bool) tree {
	out := tree{}
	for p, item := range paths {
		rest, ok := strings.CutPrefix(p, "/"+gv+"/")
		if !ok || strings.HasPrefix(rest, "watch/") {
			continue
		}
		rest = strings.TrimPrefix(rest, "namespaces/{namespace}/")
		resource, _, _ := strings.Cut(rest, "/")
		if resources[resource] {
			out[p] = cut(item)
		}
	}
	return out
}

// dropped are the parts of a path that no client of ours reads.
var dropped = []string{"description", "tags", "uniqueItems", "consumes", "schemes", "x-codegen-request-body-name"}

func cut(v any) any {
	switch v := v.(type) {
	case tree:
		out := tree{}
		for name, x := range v {
			switch {
			case name == "description" && v["schema"] != nil && v["in"] == nil, name == "description" && v["content"] != nil:
				out[name] = "OK"
			case name == "description" && len(v) == 1:
				out[name] = x
			case !slices.Contains(dropped, name):
				out[name] = cut(x)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = cut(x)
		}
		return out
	}
	return v
}

// reachable are the schemas that the paths name, and those that these name.
func reachable(schemas, paths tree, prefix string) tree {
	out := tree{}
	var visit func(any)
	visit = func(v any) {
		switch v := v.(type) {
		case tree:
			if ref, ok := v["$ref"].(string); ok {
				name := strings.TrimPrefix(ref, prefix)
				if _, done := out[name]; !done && schemas[name] != nil {
					out[name] = schemas[name]
					visit(schemas[name])
				}
			}
			for _, x := range v {
				visit(x)
			}
		case []any:
			for _, x := range v {
				visit(x)
			}
		}
	}
	visit(paths)
	return out
}
