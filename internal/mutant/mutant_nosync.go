//go:build mutant_nosync

package mutant

const planted = "nosync"
