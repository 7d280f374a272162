package runtime

import (
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mountsBelow lists the mount points at and below dir, deepest and latest first.
func mountsBelow(dir string) ([]string, error) {
	infos, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return nil, fmt.Errorf("read the mounts below %s: %w", dir, err)
	}
	var out []string
	for _, m := range infos {
		out = append(out, m.Mountpoint)
	}
	sort.SliceStable(out, func(i, j int) bool { return len(out[i]) > len(out[j]) })
	return out, nil
}

// unmountBelow unmounts everything at and below dir, lazily where something is busy.
func unmountBelow(dir string) error {
	list, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range list {
		if err := unix.Unmount(m, 0); err == nil || errors.Is(err, unix.EINVAL) {
			continue
		}
		if err := unix.Unmount(m, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", m, err))
		}
	}
	return errors.Join(errs...)
}

// unmountAll unmounts everything at and below dir and makes sure that nothing is left. It reads the mount table, which is long on a
// machine with many pods, once more only if something was mounted.
func unmountAll(dir string) error {
	list, err := mountsBelow(dir)
	if err != nil || len(list) == 0 {
		return err
	}
	if err := unmountBelow(dir); err != nil {
		return err
	}
	left, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("%s is still mounted below %s", left[0], dir)
	}
	return nil
}

// RemoveTree removes a folder with all below it, after unmounting, and refuses while any mount is left: what is mounted there may
// be a folder of the host, whose files must not be removed.
func RemoveTree(dir string) error {
	if !strings.HasPrefix(dir, "/") || dir == "/" {
		return fmt.Errorf("refuse to remove %q", dir)
	}
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := unmountAll(dir); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}
