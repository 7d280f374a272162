// Package seal encrypts what a member keeps on disk: entries of the log, snapshots and blobs.
//
// It owns the key ring, a file beside the data that lists the data keys, each wrapped (encrypted) by a key that is kept elsewhere: in a
// file of its own or behind a command (Source). It knows nothing of what it encrypts but the bytes and the place they belong to, which
// is bound to them, so that a piece that was put elsewhere does not open.
//
// How data passes through: Seal encrypts under the ring's active data key with XChaCha20-Poly1305 and a random nonce of 192 bits, which
// may be drawn at random for as many pieces as a disk holds (draft-irtf-cfrg-xchacha, 2); the key's ID stands before it. Open
// finds the key by that ID. Rotate adds a data key and makes it the active one, while all go on to read and write; Retire forgets those
// that nothing uses any more. Rewrap wraps all data keys by another outer key.
package seal
