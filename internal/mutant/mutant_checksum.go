//go:build mutant_checksum

package mutant

const planted = "checksum"
