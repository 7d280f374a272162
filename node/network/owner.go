package network

import (
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
)

// OwnedError says that the pods' network of this machine belongs to another data directory.
type OwnedError struct{ Bridge, Owner string }

// Error implements error.
func (e *OwnedError) Error() string {
	return fmt.Sprintf("the pods' interface %s belongs to %s", e.Bridge, e.Owner)
}

// CheckOwner returns an OwnedError if the bridge in the network namespace of the calling thread was made for another data
// directory than owner, and that one is still there. The bridge carries its owner's path as the link's alias: it lives exactly as
// long as what it says, also when all processes have ended.
func CheckOwner(bridge, owner string) error {
	br, err := netlink.LinkByName(bridge)
	if err != nil {
		return nil //nolint:nilerr // there is none yet, or it cannot be asked for: making it will tell
	}
	if a := br.Attrs().Alias; a != "" && a != owner {
		if _, err := os.Stat(a); err == nil {
			return &OwnedError{Bridge: bridge, Owner: a}
		}
	}
	return nil
}
