// Package plan compares what is desired with what is live, forecasts what will follow, and renders both.
//
// It is pure: the forecast is controller.Settle on an overlay, the same that a commit runs, so that the plan is the truth.
// It owns the shape of a plan (JSON and text) and its token. It may know admission, controller, object, proxy/model and
// scheduler.
package plan
