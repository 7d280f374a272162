package faulttest

import (
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"time"
)

// SeedVariable chooses what the tests draw: which member, how long, which fault. What processes and disks make of it is not repeatable.
const SeedVariable = "FAULT_SEED"

// dice is one source of chance for the process, so that its seed can be printed and given again.
type dice struct {
	seed uint64
	mu   sync.Mutex
	rand *rand.Rand
}

var chance = sync.OnceValue(func() *dice {
	seed, err := strconv.ParseUint(os.Getenv(SeedVariable), 10, 64)
	if err != nil {
		seed = uint64(time.Now().UnixNano())
	}
	return &dice{seed: seed, rand: rand.New(rand.NewPCG(seed, 0))}
})

// IntN draws from 0 to n-1.
func IntN(n int) int {
	d := chance()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rand.IntN(n)
}

// Float64 draws from 0 to 1.
func Float64() float64 {
	d := chance()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rand.Float64()
}

// UpTo draws a duration below max.
func UpTo(limit time.Duration) time.Duration {
	return time.Duration(Float64() * float64(limit))
}
