package gitops

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"reconcile/manifests"
	"reconcile/manifests/git"
)

// Blame finds the place in a commit's files that sets a field: commit and file are the annotations object.AnnotationCommit and
// object.AnnotationFile (FILE:LINE) of an object, field is a path as in Kubernetes' errors. Where the field itself is not
// found, as in CUE, it is the place of the document.
func Blame(objects interface {
	manifests.Objects
	Commit(h git.Hash) (git.Commit, error)
}, commit, file, field string) (manifests.Position, error) {
	name, line, ok := cutLine(file)
	if !ok {
		return manifests.Position{}, fmt.Errorf("find %s: want FILE:LINE", file)
	}
	doc := manifests.Position{File: name, Line: line, Col: 1}
	h, ok := git.ParseHash(commit)
	if !ok {
		return doc, fmt.Errorf("find %s in commit %q: it is no hash", file, commit)
	}
	c, err := objects.Commit(h)
	if err != nil {
		return doc, fmt.Errorf("find %s: %w", file, err)
	}
	blob, err := git.Lookup(objects, c.Tree, name)
	if err != nil {
		return doc, fmt.Errorf("find %s in commit %.7s: %w", file, commit, err)
	}
	content, ok := objects.Blob(blob)
	if !ok {
		return doc, fmt.Errorf("find %s in commit %.7s: its content is missing", file, commit)
	}
	if at, ok := manifests.Locate(name, content, line); ok {
		return at.Of(field), nil
	}
	return doc, nil
}

// Blame is Blame on this server's repository. A commit that came through another server is read first.
func (s *Service) Blame(commit, file, field string) (manifests.Position, error) {
	if h, ok := git.ParseHash(commit); ok {
		if _, err := s.repo.Commit(h); err != nil {
			if _, err := s.repo.Sync(context.Background()); err != nil {
				return manifests.Position{}, err
			}
		}
	}
	return Blame(s.repo, commit, file, field)
}

func cutLine(file string) (string, int, bool) {
	i := strings.LastIndexByte(file, ':')
	if i < 0 {
		return "", 0, false
	}
	line, err := strconv.Atoi(file[i+1:])
	return file[:i], line, err == nil
}
