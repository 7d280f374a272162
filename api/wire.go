package api

import (
	"encoding/binary"

	"google.golang.org/protobuf/encoding/protowire"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Kubernetes' protobuf, put together by hand around stored bytes, so that no object is encoded twice. The layouts are those of
// k8s.io/apimachinery/pkg/runtime/generated.proto (Unknown, TypeMeta) and pkg/apis/meta/v1/generated.proto (WatchEvent); every
// List message has its metadata as field 1 and its items as field 2.

var protoMagic = []byte("k8s\x00")

// envelopeHead is everything of an envelope before the raw bytes, whose length is n.
func envelopeHead(gvk schema.GroupVersionKind, n int) []byte {
	var meta []byte
	meta = protowire.AppendTag(meta, 1, protowire.BytesType)
	meta = protowire.AppendString(meta, gvk.GroupVersion().String())
	meta = protowire.AppendTag(meta, 2, protowire.BytesType)
	meta = protowire.AppendString(meta, gvk.Kind)

	b := append([]byte(nil), protoMagic...)
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	b = protowire.AppendBytes(b, meta)
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	return protowire.AppendVarint(b, uint64(n))
}

// listItemHead is what stands before each item of a list.
func appendListItemHead(b []byte, n int) []byte {
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	return protowire.AppendVarint(b, uint64(n))
}

// listItemSize is how much an item of n bytes takes in a list.
func listItemSize(n int) int { return protowire.SizeTag(2) + protowire.SizeBytes(n) }

// appendFrame appends a watch event as a frame of a protobuf stream: a 4-byte big-endian length, then WatchEvent{type, object},
// whose object is a RawExtension around a whole envelope.
func appendFrame(b []byte, event string, gvk schema.GroupVersionKind, raw []byte) []byte {
	head := envelopeHead(gvk, len(raw))
	envelope := len(head) + len(raw)
	ext := protowire.SizeTag(1) + protowire.SizeBytes(envelope)
	size := protowire.SizeTag(1) + protowire.SizeBytes(len(event)) + protowire.SizeTag(2) + protowire.SizeBytes(ext)
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	b = protowire.AppendString(b, event)
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(ext))
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(envelope))
	b = append(b, head...)
	return append(b, raw...)
}
