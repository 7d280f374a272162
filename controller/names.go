package controller

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"

	"k8s.io/apimachinery/pkg/types"

	"reconcile/object"
)

// alphabet is Kubernetes' for generated names: no vowels and nothing that looks like another sign.
const alphabet = "bcdfghjklmnpqrstvwxz2456789"

// HashUID makes a UID from its parts: a version 8 UUID (RFC 9562, section 5.8) over their SHA-256. Whoever knows the parts can
// name the object before it exists, which is why a plan can.
func HashUID(parts ...string) types.UID {
	s := sum(parts)
	s[6] = s[6]&0x0f | 0x80
	s[8] = s[8]&0x3f | 0x80
	h := hex.EncodeToString(s[:16])
	return types.UID(h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:])
}

// again tells apart, in a UID, what is made under one name one time after another: what is made again after somebody deleted it is another object, and
// who deleted it waits for another UID. It is empty for what is made together with its owner, so that a forecast names the very object.
func again(v View, owner object.Object) string {
	if owner.GetResourceVersion() == "" {
		return ""
	}
	return strconv.FormatUint(v.Rev(), 10)
}

// slotSuffix is the five signs behind the name of the owner's child in a slot.
func slotSuffix(owner types.UID, slot int) string {
	s := sum([]string{"name", string(owner), strconv.Itoa(slot)})
	out := make([]byte, 5)
	for i := range out {
		out[i] = alphabet[int(s[i])%len(alphabet)]
	}
	return string(out)
}

func sum(parts []string) [32]byte {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(strconv.Itoa(len(p))))
		h.Write([]byte{':'})
		h.Write([]byte(p))
	}
	return [32]byte(h.Sum(nil))
}
