package api_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"pgregory.net/rapid"

	"reconcile/api"
	"reconcile/api/apitest"
)

// TestZippedListsAreThePlainOnes lists with gzip and without, in JSON and protobuf, in pages and whole, all and selections, between random changes, and
// expects the same bytes in one gzip member.
func TestZippedListsAreThePlainOnes(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *apitest.Server{
		"store in memory": func(t testing.TB) *apitest.Server { return apitest.Start(t, apitest.New(), nil) },
		"real store":      startReal,
		"little is kept": func(t testing.TB) *apitest.Server {
			return apitest.Start(t, apitest.New(), func(c *api.Config) { c.CacheBytes = 100 << 10 })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			c := typed(t, s, true)
			waitForNamespace(t, c)
			hc, err := rest.HTTPClientFor(restConfig(t, s, false))
			if err != nil {
				t.Fatal(err)
			}
			for i := range 300 {
				put(t.Context(), t, c, i, i%17, i%300)
			}
			zipped := 0
			rapid.Check(t, func(rt *rapid.T) {
				for range rapid.IntRange(0, 3).Draw(rt, "changes") {
					put(t.Context(), rt, c, rapid.IntRange(0, 400).Draw(rt, "which"), rapid.IntRange(0, 16).Draw(rt, "group"), rapid.IntRange(-20, 400).Draw(rt, "size"))
				}
				q := url.Values{}
				switch rapid.IntRange(0, 5).Draw(rt, "selector") {
				case 0:
					q.Set("labelSelector", fmt.Sprint("group!=", rapid.IntRange(0, 16).Draw(rt, "not")))
				case 1:
					q.Set("labelSelector", fmt.Sprint("group=", rapid.IntRange(0, 16).Draw(rt, "only")))
				case 2:
					q.Set("fieldSelector", fmt.Sprintf("metadata.name!=m-%d", rapid.IntRange(0, 400).Draw(rt, "but")))
				}
				if rapid.Bool().Draw(rt, "pages") {
					q.Set("limit", strconv.Itoa(rapid.IntRange(1, 500).Draw(rt, "limit")))
				}
				path := rapid.SampledFrom([]string{"/api/v1/configmaps", "/api/v1/namespaces/default/configmaps"}).Draw(rt, "path")
				accept := rapid.SampledFrom([]string{"application/json", "application/vnd.kubernetes.protobuf"}).Draw(rt, "accept")
				for pages := 0; pages < 3; pages++ {
					u := s.URL + path + "?" + q.Encode()
					want, _ := fetch(t.Context(), rt, hc, u, accept, "identity")
					got, was := fetch(t.Context(), rt, hc, u, accept, "gzip")
					if !bytes.Equal(got, want) {
						rt.Fatalf("%s %s: %d bytes with gzip, %d without", accept, u, len(got), len(want))
					}
					if was {
						zipped++
					}
					next := regexp.MustCompile(`eyJydiI6[A-Za-z0-9_-]+`).Find(want[:min(len(want), 400)])
					if next == nil {
						break
					}
					q.Set("continue", string(next))
				}
			})
			if zipped < 20 {
				t.Errorf("only %d answers were compressed", zipped)
			}
		})
	}
}

// put makes or changes a config map, or deletes it if its size is below nothing.
func put(ctx context.Context, t rapid.TB, c kubernetes.Interface, i, group, size int) {
	maps, name := c.CoreV1().ConfigMaps("default"), fmt.Sprint("m-", i)
	if size < 0 {
		_ = maps.Delete(ctx, name, metav1.DeleteOptions{}) // it may not be there
		return
	}
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"group": strconv.Itoa(group)}}, Data: map[string]string{}}
	for n := range size / 10 {
		m.Data[fmt.Sprintf("key-%d", n)] = fmt.Sprintf("the value of %d in %d", n, i)
	}
	_, err := maps.Update(ctx, m, metav1.UpdateOptions{})
	if err != nil {
		_, err = maps.Create(ctx, m, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// fetch reads an answer whole, and tells whether it came compressed, which must be in one gzip member.
func fetch(ctx context.Context, t rapid.TB, c *http.Client, u, accept, encoding string) ([]byte, bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("Accept-Encoding", encoding)
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	if res.Body.Close(); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %.200s %v", u, res.Status, b, err)
	}
	if res.Header.Get("Content-Encoding") != "gzip" {
		return b, false
	}
	in := bytes.NewReader(b)
	r, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	r.Multistream(false)
	out, err := io.ReadAll(r)
	if err != nil || in.Len() > 0 {
		t.Fatalf("%s: %v, and %d bytes follow", u, err, in.Len())
	}
	return out, true
}
