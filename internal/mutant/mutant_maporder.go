//go:build mutant_maporder

package mutant

const planted = "maporder"
