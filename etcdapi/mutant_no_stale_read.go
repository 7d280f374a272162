//go:build !mutant_stale_read

package etcdapi

const mutantStaleRead = false
