//go:build mutant_readstale

package mutant

const planted = "readstale"
