package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"reconcile/client"
)

// ask sends a request of ours (a path below /reconcile/v1/) to the first server that answers, and reads its JSON into answer. body may be nil.
func (f *remoteFlags) ask(ctx context.Context, method, path string, body, answer any) error {
	p, err := f.path()
	if err != nil {
		return err
	}
	cfg, err := client.FromKubeconfig(p, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	var sent []byte
	if body != nil {
		if sent, err = json.Marshal(body); err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
	}
	transport := &http.Transport{TLSClientConfig: cfg.TLS, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	var failed []error
	for _, server := range cfg.Servers {
		r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(server, "/")+"/reconcile/v1/"+path, bytes.NewReader(sent))
		if err != nil {
			return fmt.Errorf("ask %s: %w", server, err)
		}
		if body != nil {
			r.Header.Set("Content-Type", "application/json")
		}
		res, err := (&http.Client{Transport: transport}).Do(r)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			text, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
			return fmt.Errorf("%s answers %s: %s", server, res.Status, strings.TrimSpace(string(text)))
		}
		if err := json.NewDecoder(res.Body).Decode(answer); err != nil {
			return fmt.Errorf("read the answer of %s: %w", server, err)
		}
		return nil
	}
	return fmt.Errorf("no server of %s could be reached: %w", p, errors.Join(failed...))
}
