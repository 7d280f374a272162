package gitops

import (
	"encoding/json"

	"reconcile/manifests"
)

// File is one file that a command line sends. Data is its content, as it is on disk (base64 in JSON).
type File struct {
	Path string `json:"path"`
	Data []byte `json:"data"`
}

// PlanRequest asks what would happen if files became the tree of refs/heads/main, or if a commit became main. It is the body of POST
// /reconcile/v1/plan, /reconcile/v1/diff and, with Message, /reconcile/v1/apply. It has either Files or Commit.
type PlanRequest struct {
	// Files is the whole tree: what is not in it is gone.
	Files []File `json:"files,omitempty"`
	// Commit is the hash, 40 hex digits, of a commit in the client's repository: the very one that a push would bring. Pack is git's
	// pack of what the cluster lacks of it; without one the answer may be Wanted.
	Commit string `json:"commit,omitempty"`
	Pack   []byte `json:"pack,omitempty"`
	// Options are push options ("allow-delete=20").
	Options []string `json:"options,omitempty"`
	// Message becomes the commit's message when the request is applied.
	Message string `json:"message,omitempty"`
	// Token, if set, is a plan's token; apply refuses if what it would do has another one.
	Token string `json:"token,omitempty"`
	// Width and Colour are how Text is drawn. 0 is 100 columns.
	Width  int  `json:"width,omitempty"`
	Colour bool `json:"colour,omitempty"`
}

// PlanResponse answers a PlanRequest. With Findings nothing was changed and there is no plan.
type PlanResponse struct {
	// Findings are all mistakes, ordered by file, line and column.
	Findings []manifests.Finding `json:"findings,omitempty"`
	// Wanted says that the commit is not here: ask again with a Pack of what is not reachable from Main, the commit that runs (empty
	// before the first push).
	Wanted bool   `json:"wanted,omitempty"`
	Main   string `json:"main,omitempty"`
	// Note tells where the plan and a push of the same would differ.
	Note string `json:"note,omitempty"`
	// Refused says why a rule refuses the change (the prune guard, an object of another source). Nothing was changed. Of what
	// the prune guard refuses, Plan, Text and Diff tell what it would be; there is no Token.
	Refused string `json:"refused,omitempty"`
	// Changes tells whether the plan holds any change.
	Changes bool `json:"changes"`
	// Plan is the plan as JSON (plan.Plan), and Text the same for people.
	Plan json.RawMessage `json:"plan,omitempty"`
	Text string          `json:"text,omitempty"`
	// Diff is the fields of all changes in the manner of diff -u, set by diff.
	Diff string `json:"diff,omitempty"`
	// Token is what apply takes to do exactly this.
	Token string `json:"token,omitempty"`
	// Commit is the hash that apply committed; empty if there was nothing to do.
	Commit string `json:"commit,omitempty"`
}
