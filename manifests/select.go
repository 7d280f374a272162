package manifests

import (
	"path"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/gitignore"
)

// ignoreFile names files that are no manifests, with the patterns of .gitignore.
const ignoreFile = ".reconcileignore"

// selection is a tree's files, sorted by what they are.
type selection struct {
	// documents are YAML and JSON files, cue the files of users' CUE packages, policy those below policy/, module cue.mod/module.cue.
	documents, cue, policy, module []File
}

// choose sorts the files of a tree. Hidden files and what .reconcileignore names are nothing.
func choose(files []File, ignore []byte) selection {
	var s selection
	m := matcher(ignore)
	for _, f := range files {
		top, _, inFolder := strings.Cut(f.Path, "/")
		ext := path.Ext(f.Path)
		switch {
		case strings.HasPrefix(path.Base(f.Path), "."), m != nil && m.Match(strings.Split(f.Path, "/"), false):
		case top == "cue.mod" && inFolder:
			// Only the module's own file counts: local-module.cue could point outside the tree.
			if f.Path == "cue.mod/module.cue" {
				s.module = append(s.module, f)
			}
		case top == "policy" && inFolder:
			if ext == ".cue" {
				s.policy = append(s.policy, f)
			}
		case ext == ".cue":
			s.cue = append(s.cue, f)
		case ext == ".yaml", ext == ".yml", ext == ".json":
			s.documents = append(s.documents, f)
		}
	}
	return s
}

// matcher reads .reconcileignore; nil if it holds no pattern.
func matcher(content []byte) gitignore.Matcher {
	var patterns []gitignore.Pattern
	for line := range strings.SplitSeq(string(content), "\n") {
		line = strings.TrimRight(line, " \t\r")
		if line != "" && !strings.HasPrefix(line, "#") {
			patterns = append(patterns, gitignore.ParsePattern(line, nil))
		}
	}
	if patterns == nil {
		return nil
	}
	return gitignore.NewMatcher(patterns)
}
