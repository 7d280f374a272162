package faulttest

import (
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"
)

// SeedVariable chooses what the tests draw: which member, how long, which fault. What processes and disks make of it is not repeatable. Main draws
// it where it is not set, and prints it.
const SeedVariable = "FAULT_SEED"

// Dice are what one test draws from: the seed and the test's name make them, so that one test alone draws what it drew among others. Safe for
// concurrent use.
type Dice struct {
	mu   sync.Mutex
	rand *rand.Rand
}

// NewDice makes dice of a test; those of another use draw beside them, and change nothing of what they draw.
func NewDice(t testing.TB, use string) *Dice {
	t.Helper()
	seed, err := strconv.ParseUint(os.Getenv(SeedVariable), 10, 64)
	if err != nil {
		t.Fatalf("%s is %q; want a number", SeedVariable, os.Getenv(SeedVariable))
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(t.Name() + "/" + use)) // never fails
	return &Dice{rand: rand.New(rand.NewPCG(seed, h.Sum64()))}
}

// IntN draws from 0 to n-1.
func (d *Dice) IntN(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rand.IntN(n)
}

// Uint64 draws any number.
func (d *Dice) Uint64() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rand.Uint64()
}

// Perm draws an order of 0 to n-1.
func (d *Dice) Perm(n int) []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rand.Perm(n)
}

// Float64 draws from 0 to 1.
func (d *Dice) Float64() float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rand.Float64()
}

// UpTo draws a duration below limit.
func (d *Dice) UpTo(limit time.Duration) time.Duration {
	return time.Duration(d.Float64() * float64(limit))
}

// setSeed draws a seed if there is none.
func setSeed() error {
	if os.Getenv(SeedVariable) != "" {
		return nil
	}
	return os.Setenv(SeedVariable, strconv.FormatInt(time.Now().UnixNano(), 10))
}
