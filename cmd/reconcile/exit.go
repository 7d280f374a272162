package main

import "errors"

// exitError carries an exit code other than 1 through cobra. A nil err prints nothing.
type exitError struct {
	code int
	err  error
}

// Error implements error.
func (e exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

// Unwrap gives the cause.
func (e exitError) Unwrap() error { return e.err }

// exitCode is the process's exit code for what a command returned.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	var e exitError
	if errors.As(err, &e) {
		return e.code
	}
	return 1
}
