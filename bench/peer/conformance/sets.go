package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// rule is what a set says about the specs whose names match.
type rule struct {
	pattern string
	match   *regexp.Regexp
	reason  string
}

// set is one owner's file: what is run, what is left out, and what is known to fail.
type set struct {
	owner string
	focus []string
	skip  []rule
	fails []rule
}

// chooses tells whether a spec is to be run: by the set's own choice, or by focus if that is not nil.
func (s set) chooses(name string, focus *regexp.Regexp) bool {
	if focus != nil {
		return focus.MatchString(name)
	}
	return slices.ContainsFunc(s.focus, func(pattern string) bool { return regexp.MustCompile(pattern).MatchString(name) })
}

// find returns the reason of the first rule that matches a spec's name.
func find(rules []rule, name string) (string, bool) {
	for _, r := range rules {
		if r.match.MatchString(name) {
			return r.reason, true
		}
	}
	return "", false
}

// readSets reads the files of owners, or of all.
func readSets(dir string, owners []string) ([]set, error) {
	if len(owners) == 1 && owners[0] == "all" {
		owners = nil
		files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			owners = append(owners, strings.TrimSuffix(filepath.Base(f), ".txt"))
		}
	}
	var out []set
	for _, owner := range owners {
		file := filepath.Join(dir, owner+".txt")
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read the specs of %s: %w", owner, err)
		}
		s, err := parseSet(owner, string(b))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// parseSet reads lines `focus REGEXP`, `skip REGEXP # REASON` and `fails REGEXP # REASON`; a line that begins with # says something to people.
func parseSet(owner, text string) (set, error) {
	s := set{owner: owner}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		pattern, reason, _ := strings.Cut(rest, " # ")
		r := rule{pattern: strings.TrimSpace(pattern), reason: strings.TrimSpace(reason)}
		var err error
		if r.match, err = regexp.Compile(r.pattern); err != nil || r.pattern == "" {
			return s, fmt.Errorf("line %d: want %s REGEXP: %w", i+1, word, err)
		}
		if word != "focus" && r.reason == "" {
			return s, fmt.Errorf("line %d: %s %s has no reason: write it behind ` # `", i+1, word, r.pattern)
		}
		switch word {
		case "focus":
			s.focus = append(s.focus, r.pattern)
		case "skip":
			s.skip = append(s.skip, r)
		case "fails":
			s.fails = append(s.fails, r)
		default:
			return s, fmt.Errorf("line %d: begins with %q: want focus, skip or fails", i+1, word)
		}
	}
	if len(s.focus) == 0 {
		return s, fmt.Errorf("no line focus REGEXP")
	}
	return s, nil
}
