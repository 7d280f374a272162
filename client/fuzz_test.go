package client

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"reconcile/object"
)

// A server may be broken, or be another one than was meant: no answer may end the program, and what is read is an object of the kind.

func fuzzedKinds(f *testing.F) []object.Kind {
	var out []object.Kind
	for _, r := range []string{"configmaps", "pods", "services", "nodes", "leases", "commits"} {
		k, ok := object.KindOfResource(r)
		if !ok {
			f.Fatal(r)
		}
		out = append(out, k)
	}
	return out
}

// whole tells what is wrong with a decoded object, empty for nothing.
func whole(o object.Object, err error) string {
	switch {
	case (o == nil) == (err == nil):
		return "neither an object nor an error, or both"
	case err != nil:
		return ""
	}
	if _, err := object.KindOfObject(o); err != nil {
		return err.Error()
	}
	return ""
}

// FuzzAnswer gives whatever bytes for the answer to a request for one object, and for a list.
func FuzzAnswer(f *testing.F) {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b"}, Data: map[string]string{"k": "v"}}
	b, err := object.Encode(cm)
	if err != nil {
		f.Fatal(err)
	}
	list, err := (&corev1.ConfigMapList{ListMeta: metav1.ListMeta{ResourceVersion: "7"}, Items: []corev1.ConfigMap{*cm, *cm}}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	wrapped, err := (&runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: "ConfigMapList"}, Raw: list}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, uint8(0), true)
	f.Add(append([]byte("k8s\x00"), wrapped...), uint8(0), true)
	f.Add([]byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"}}`), uint8(0), false)
	f.Add([]byte(`null`), uint8(1), false)
	kinds := fuzzedKinds(f)
	f.Fuzz(func(t *testing.T, b []byte, kind uint8, proto bool) {
		k, media := kinds[int(kind)%len(kinds)], mediaJSON
		if proto {
			media = mediaProto
		}
		if fault := whole(decode(b, media, k)); fault != "" {
			t.Error(fault)
		}
		items, _, err := protoList(b, k)
		if err != nil && items != nil {
			t.Errorf("%d items beside the error %v", len(items), err)
		}
		for _, o := range items {
			if fault := whole(o, nil); fault != "" {
				t.Error(fault)
			}
		}
	})
}

// FuzzEvents gives whatever bytes for a watch: its reader comes to an end, and each event before that is an object.
func FuzzEvents(f *testing.F) {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b"}}
	b, err := object.Encode(cm)
	if err != nil {
		f.Fatal(err)
	}
	e, err := (&metav1.WatchEvent{Type: "ADDED", Object: runtime.RawExtension{Raw: b}}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(binary.BigEndian.AppendUint32(nil, uint32(len(e))), e...), uint8(0), true)
	f.Add([]byte{0, 0, 0, 2, 10, 0, 0xff, 0xff, 0xff, 0xff}, uint8(0), true)
	f.Add([]byte(`{"type":"ADDED","object":{"metadata":{"name":"x"}}}{"type":"ERROR","object":{"code":410}}`), uint8(1), false)
	kinds := fuzzedKinds(f)
	f.Fuzz(func(t *testing.T, b []byte, kind uint8, proto bool) {
		next := jsonEvents(bytes.NewReader(b), kinds[int(kind)%len(kinds)])
		if proto {
			next = protoEvents(bytes.NewReader(b))
		}
		for range len(b) + 1 { // no event is shorter than a byte
			_, o, err := next()
			if errors.Is(err, io.EOF) {
				return
			}
			if fault := whole(o, err); fault != "" {
				t.Fatal(fault)
			}
			if err != nil {
				return // who watches begins anew
			}
		}
		t.Error("there are more events than bytes")
	})
}

// FuzzKubeconfig gives whatever text for a kubeconfig: what is taken names a server.
func FuzzKubeconfig(f *testing.F) {
	f.Add([]byte("apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: 'https://h:6443'}}]\nusers: [{name: u, user: {token: x}}]\n"))
	f.Add([]byte(`{"clusters":[{"name":"c","cluster":{"certificate-authority-data":"eA=="}}]}`))
	path := filepath.Join(f.TempDir(), "config")
	f.Fuzz(func(t *testing.T, b []byte) {
		// A file that it names is read: none is to be outside of this test's reach.
		if bytes.Contains(b, []byte("/")) && !bytes.Contains(b, []byte("https://h")) {
			return
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := FromKubeconfig(path, nil)
		if err == nil && (len(cfg.Servers) == 0 || cfg.Servers[0] == "" || cfg.TLS == nil) {
			t.Errorf("taken with the servers %q", cfg.Servers)
		}
	})
}
