//go:build mutant_lost_write

package etcdapi

const mutantLostWrite = true
