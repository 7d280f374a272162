// Package proxy makes one node's kernel forward the connections of every service to its endpoints.
//
// It owns the loop between the objects and the kernel, the choice of the kernel load balancer (IPVS where there is one, else
// nftables), and the Source and Kernel interfaces. Below it stand proxy/model (pure: what is wanted, and the difference),
// proxy/ipvs and proxy/nftables (the kernels) and proxy/proxytest (a semantic fake, and the one suite that all three pass with
// packets sent). It may not know the store, the API or how names are answered.
//
// How data passes through: Services, EndpointSlices and this node's Node come from a Source into a model.Index; the difference
// to what the kernel has is applied. Nothing comes back but a Status. See DESIGN.md beside this file.
package proxy
