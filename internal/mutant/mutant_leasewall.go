//go:build mutant_leasewall

package mutant

const planted = "leasewall"
