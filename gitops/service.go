package gitops

import (
	"context"
	"io"

	"reconcile/sequencer"
)

// Writer is what gitops needs of the sequencer.
type Writer interface {
	// Submit commits a request as a whole, or not at all. See sequencer.Request.
	Submit(ctx context.Context, req sequencer.Request) (sequencer.Result, error)
	// StageBlob stores bytes under their digest before an entry refers to them.
	StageBlob(ctx context.Context, data []byte) (digest string, err error)
}

// Door is how HTTP reaches the service; *Service implements it, and api declares the part it uses.
//
// GET info/refs?service=S is AdvertiseRefs (S is git-upload-pack or git-receive-pack; the answer's Content-Type is
// application/x-S-advertisement), POST git-receive-pack is ReceivePack and POST git-upload-pack is UploadPack (answers:
// application/x-S-result). The reader is the request's body, already un-gzipped; a writer that has a Flush method (with or
// without an error) is flushed after each message, so that the user sees words as they come. All answers need Cache-Control:
// no-cache. POST /reconcile/v1/plan, /diff and /apply take a PlanRequest as JSON and answer a PlanResponse with 200, also
// when it holds findings.
type Door interface {
	AdvertiseRefs(ctx context.Context, service string, w io.Writer) error
	ReceivePack(ctx context.Context, user string, r io.Reader, w io.Writer) error
	UploadPack(ctx context.Context, r io.Reader, w io.Writer) error
	Plan(ctx context.Context, user string, req PlanRequest) (PlanResponse, error)
	Diff(ctx context.Context, user string, req PlanRequest) (PlanResponse, error)
	Apply(ctx context.Context, user string, req PlanRequest) (PlanResponse, error)
}
