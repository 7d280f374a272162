//go:build mutant_keephead

package mutant

const planted = "keephead"
