package faulttest

import "testing"

// Disk is a file system that forgets.
type Disk struct{}

func mountDisk(testing.TB, string) *Disk { return nil }

func (d *Disk) unmount() {}
