//go:build !mutant_lost_event

package etcdapi

const mutantLostEvent = false
