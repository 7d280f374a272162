//go:build mutant_oldhash

package mutant

const planted = "oldhash"
