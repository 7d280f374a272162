// Package authz decides who may do what.
//
// It owns the rules, and nothing else: it is pure, is given the request as data and looks up objects through a function. It
// knows no HTTP and no store. Part 1 has fixed rules: system:masters may do everything, an agent what a machine needs,
// everybody may ask for the version and for health. Role-based access takes their place behind the same function.
//
// How data passes through: api and gitops turn a request into Attributes; Authorize answers with a Decision; a refusal carries
// the reason in Kubernetes' own words, which api puts into the 403 it sends.
package authz
