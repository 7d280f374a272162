//go:build mutant_base

package mutant

const planted = "base"
