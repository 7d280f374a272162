//go:build mutant_watchdrop

package mutant

const planted = "watchdrop"
