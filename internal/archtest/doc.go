// Package archtest holds the rules of the house, of ARCHITECTURE.md, as a test that fails with the reason: which package may
// import which, which packages are pure, which may import Kubernetes' own code, and that every package says what it is for.
//
// It reads source files only, never test files, and knows nothing of what they do. It owns no state.
package archtest
