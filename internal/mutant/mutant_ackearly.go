//go:build mutant_ackearly

package mutant

const planted = "ackearly"
