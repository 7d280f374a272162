package gitops

import (
	"errors"
	"fmt"

	"reconcile/manifests/git"
)

// notOfAPush is what the plan of a folder that makes pods says about their names.
const notOfAPush = "The names of new pods are those of `reconcile apply`: they follow from the commit. What a push will make, `git push REMOTE\n" +
	"HEAD:refs/plan/main` foretells, or `reconcile plan HEAD` in the work tree."

// checkRequest says which requests contradict themselves.
func checkRequest(req PlanRequest) error {
	if len(req.Files) > 0 && req.Commit != "" || len(req.Pack) > 0 && req.Commit == "" {
		return errors.New("a request has either files, or a commit and its pack")
	}
	if _, ok := git.ParseHash(req.Commit); req.Commit != "" && !ok {
		return fmt.Errorf("commit %q: want 40 hex digits", req.Commit)
	}
	return checkPaths(req.Files)
}

// takeCommit makes the candidate the commit that the request names, in a quarantine, as if it had been pushed to main. It answers itself
// when its objects must be sent first, and returns a note where a push would be refused that a plan need not be.
func (s *Service) takeCommit(c *candidate, req PlanRequest, main git.Hash) (answer *PlanResponse, note string, err error) {
	hash, _ := git.ParseHash(req.Commit)
	c.pack = req.Pack
	if c.objects, err = s.repo.Quarantine(req.Pack); err != nil {
		return nil, "", fmt.Errorf("the pack of commit %.7s: %w", hash, err)
	}
	if len(req.Pack) == 0 && !c.objects.Has(hash) {
		return &PlanResponse{Wanted: true, Main: baseRef(main)}, "", nil
	}
	if err := c.objects.Check(); err != nil {
		return nil, "", err
	}
	if c.commit, err = c.objects.Commit(hash); err != nil {
		return nil, "", err
	}
	if hash == main {
		return nil, "", nil
	}
	c.commands = []git.Command{{Ref: git.MainRef, Old: main, New: hash}}
	if main.IsZero() || c.objects.Reaches(hash, main) {
		return nil, "", nil
	}
	if !c.dryRun {
		return nil, "", fmt.Errorf("non-fast-forward: main is at %.7s, which is not an ancestor of %.7s; git fetch, rebase and plan again", main, hash)
	}
	return nil, fmt.Sprintf("A push of it is refused as things are: main is at %.7s, which is not an ancestor of %.7s; git fetch and rebase.", main, hash), nil
}
