// Package mutant plants known bugs, to show that the tests find them: one in each build with a tag mutant_NAME, none in any other build.
//
// It owns the list of the bugs, as constants that the code tests where the bug would be; all are false in a normal build, and the compiler
// leaves nothing of them. It knows no other package but fp. internal/mutants builds each of them and demands that the tests fail.
package mutant
