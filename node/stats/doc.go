// Package stats reads how much of the machine is there and used: capacity for the Node object, and the cgroups of containers.
//
// It owns nothing and changes nothing. How data passes through: /proc and cgroup files become numbers.
package stats
