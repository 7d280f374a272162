// Package vmtest runs a package's tests inside a virtual machine, for what the host's kernel does not have (IPVS, cgroup v2) or
// what no test should do to it.
//
// It boots Debian's cloud kernel in QEMU with the test binary itself as /init, and brings output, exit code and coverage back
// over virtio-serial, so that `go test`, -run, -v, -cover and -count work as ever. It owns the building of the initial RAM disk,
// the loading of modules, the guest's mounts and the frames between guest and host. It knows no kind of ours. The kernel is in a
// cache folder, put there by scripts/vmkernel.sh (`make vm-kernel`); without it, or without QEMU, the tests are skipped and say
// so, unless VMTEST_REQUIRED=1, which `make test` sets. Acceleration is always TCG: a /dev/kvm that exists need not work.
//
// How data passes through: Main on the host packs the test binary, the modules and what Config names into a cpio archive and
// starts QEMU; Main in the guest, as process 1, mounts, loads, starts the binary again as a child, and sends frames; in that
// child Main runs the tests.
//
//	func TestMain(m *testing.M) { vmtest.Main(m, vmtest.Config{Modules: []string{"ip_vs", "ip_vs_rr"}}) }
//
// The package's folder testdata is copied; the tests' working directory is / with testdata below it. The root file system is a
// tmpfs (not the kernel's rootfs, in which pivot_root does not work), /sys/fs/cgroup is cgroup v2 with all controllers enabled,
// and lo is up. Boot to first test takes 4 to 8 s on two cores.
package vmtest
