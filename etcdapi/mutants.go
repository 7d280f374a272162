package etcdapi

// The faults that a judge of this API must find (bench/peer/etcd, `make judge`): each is switched on by a build tag of the same name, in a file
// of its own, and is false in every program that anybody runs.
//
//	mutant_stale_read   a linearizable read asks for no read index
//	mutant_lost_event   a watch passes over one event in a hundred
//	mutant_lost_write   about one put in fifty is acknowledged and not written
