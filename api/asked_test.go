package api_test

import (
	"bytes"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"reconcile/api/apitest"
)

// answer sends a request with these headers and reads the answer whole. path is below the namespace default of core v1 if it does not begin with /.
func answer(t *testing.T, s *apitest.Server, c *http.Client, method, path, body string, headers map[string]string) (*http.Response, string) {
	t.Helper()
	if !strings.HasPrefix(path, "/") {
		path = "/api/v1/namespaces/default/" + path
	}
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range headers {
		if v != "" {
			r.Header.Set(name, v)
		}
	}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

// asked is answer with a media type.
func asked(t *testing.T, s *apitest.Server, c *http.Client, method, path, media, body string) (code int, header http.Header, text string) {
	t.Helper()
	res, text := answer(t, s, c, method, path, body, map[string]string{"Content-Type": media})
	return res.StatusCode, res.Header, text
}

// exchange is a request and what is demanded of the answer.
type exchange struct {
	method, path, media, body string
	code                      int
	want                      string // a regular expression of the body, behind the headers that are looked at
}

// hold sends the request and holds the answer against what is demanded. The headers that are named stand before the body, each in a line.
func (x exchange) hold(t *testing.T, s *apitest.Server, c *http.Client, headers ...string) (code int, text string) {
	t.Helper()
	code, header, text := asked(t, s, c, x.method, x.path, x.media, x.body)
	subject := text
	for i := len(headers) - 1; i >= 0; i-- {
		subject = header.Get(headers[i]) + "\n" + subject
	}
	if code != x.code || !regexp.MustCompile(x.want).MatchString(subject) {
		t.Errorf("%s %s %s:\n%d %s\nwant %d %s", x.method, x.path, x.body, code, subject, x.code, x.want)
	}
	return code, text
}
