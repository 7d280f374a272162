package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// pages are the pages for users, by their path from the top of the tree.
func pages(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	out := map[string]string{}
	for _, f := range append(files, "../../README.md") {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[f] = string(b)
	}
	return out
}

// TestDocsLinks holds every relative link of the pages against the files that there are.
func TestDocsLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#: ]+)(#[^)]*)?\)`)
	for page, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", page, m[1])
			}
		}
	}
}

// TestDocsCommands holds every command line of the pages against the commands and flags that there are.
func TestDocsCommands(t *testing.T) {
	line := regexp.MustCompile(`(?m)^(?:\$ )?reconcile ([a-z].*)$`)
	for page, text := range pages(t) {
		for _, m := range line.FindAllStringSubmatch(text, -1) {
			words := strings.Fields(m[1])
			cmd, rest, err := newRoot().Find(words)
			if err != nil || !cmd.HasParent() {
				t.Errorf("%s: `reconcile %s`: no such command", page, m[1])
				continue
			}
			if cmd.Name() != "kubectl" {
				checkFlags(t, page, cmd, rest)
			}
		}
	}
}

func checkFlags(t *testing.T, page string, cmd *cobra.Command, words []string) {
	t.Helper()
	for _, w := range words {
		name, _, _ := strings.Cut(strings.TrimPrefix(w, "--"), "=")
		// The rest of the line is the shell's or a comment.
		if strings.ContainsAny(w, "|&;>#") {
			return
		}
		if strings.HasPrefix(w, "--") && cmd.Flag(name) == nil {
			t.Errorf("%s: `%s` has no flag %s", page, cmd.CommandPath(), w)
		}
	}
}
