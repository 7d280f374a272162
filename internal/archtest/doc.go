// Package archtest holds the rules of the house, of ARCHITECTURE.md, as a test that fails with the reason: which package may
// import which, which packages are pure, which may import Kubernetes' own code, and that every package says what it is for.
//
// It also holds that only the command line writes to the standard output, that what helps tests is no part of the program, and
// that no test sleeps and hopes. It reads source files only and knows nothing of what they do. It owns no state.
package archtest
