// Package image is the node's store of container images: archives are imported, folders and static binaries built, layers
// unpacked, names resolved.
//
// It owns ROOT/blobs/sha256 (manifests, configs, layers as they came), ROOT/layers/CHAINID/fs (layers unpacked for
// overlayfs), ROOT/l (short links to them, since mount(2) takes one page of options) and ROOT/refs.json. It knows no
// container: whether an image is in use is told by a function. It reaches no registry yet.
//
// How data passes through: an archive's blobs are copied while their digests are checked, each layer is unpacked in a
// temporary folder and renamed into place when whole, and the name is written last; so a name that is there is complete.
package image
