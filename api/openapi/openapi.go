package openapi

import (
	"embed"
	"encoding/json"
	"fmt"
	"strings"
)

//go:embed data
var data embed.FS

// Hashes returns the hash of each document of OpenAPI v3 by its name ("api/v1", "apis/apps/v1"). The caller owns the map.
func Hashes() (map[string]string, error) {
	b, err := data.ReadFile("data/hashes.json")
	if err != nil {
		return nil, fmt.Errorf("read the index of the OpenAPI documents: %w", err)
	}
	out := map[string]string{}
	return out, json.Unmarshal(b, &out)
}

// V3 returns the document of a group version, by the name that Hashes gives it, as JSON compressed with gzip. The bytes are the
// caller's. It answers false for what it does not have.
func V3(name string) ([]byte, bool) {
	b, err := data.ReadFile("data/" + strings.ReplaceAll(name, "/", "_") + ".json.gz")
	return b, err == nil
}

// V2 returns the one document of OpenAPI v2, compressed with gzip, as JSON or in gnostic's protobuf form. The bytes are the caller's.
func V2(proto bool) ([]byte, error) {
	name := "data/v2.json.gz"
	if proto {
		name = "data/v2.pb.gz"
	}
	b, err := data.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the OpenAPI v2 document: %w", err)
	}
	return b, nil
}
