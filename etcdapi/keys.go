package etcdapi

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"reconcile/authz"
	"reconcile/raftstore"
)

// registry is where the cluster's objects are. hidden are our own keys, which no client sees.
const registry = "/registry/"

var hidden = [...]raftstore.Span{raftstore.Prefix("/git/"), raftstore.Prefix("/reconcile/")}

// spanOf is etcd's pair of key and range end: no end is one key, "\x00" as the end is everything from the key on.
func spanOf(key, end []byte) raftstore.Span {
	switch {
	case len(end) == 0:
		return raftstore.Key(string(key))
	case len(end) == 1 && end[0] == 0:
		return raftstore.Span{From: string(key)}
	case string(end) <= string(key):
		return raftstore.Span{From: "\x00", To: "\x00"} // nothing
	}
	return raftstore.Span{From: string(key), To: string(end)}
}

// single tells whether a pair of key and range end is one key.
func single(end []byte) bool { return len(end) == 0 }

func overlaps(a, b raftstore.Span) bool {
	return (a.To == "" || b.From < a.To) && (b.To == "" || a.From < b.To)
}

// within tells whether a lies wholly in b.
func within(a, b raftstore.Span) bool {
	return a.From >= b.From && (b.To == "" || a.To != "" && a.To <= b.To)
}

// shown are the parts of a span that clients may see, in order: without what is hidden.
func shown(sp raftstore.Span) []raftstore.Span {
	out := []raftstore.Span{sp}
	for _, h := range hidden {
		last := out[len(out)-1]
		if !overlaps(last, h) {
			continue
		}
		out = out[:len(out)-1]
		if last.From < h.From {
			out = append(out, raftstore.Span{From: last.From, To: h.From})
		}
		if h.To != "" && (last.To == "" || h.To < last.To) {
			out = append(out, raftstore.Span{From: h.To, To: last.To})
		}
		if len(out) == 0 {
			return nil
		}
	}
	return out
}

// visible tells whether clients may see a key.
func visible(key string) bool { return !hidden[0].Contains(key) && !hidden[1].Contains(key) }

// client is who asks, as far as rights go.
type client struct {
	// masters may read the cluster's objects.
	masters bool
	// registry allows writes of them.
	registry bool
}

// GroupClients is the group (organisation) of certificates that may use this API without reading the cluster's objects.
const GroupClients = "reconcile:etcd-clients"

// errStranger refuses certificates of the cluster that are not meant for this API, such as those of agents.
var errStranger = status.Errorf(codes.PermissionDenied, "etcdserver: permission denied: the certificate is of none of the groups %s and %s; use the one that --etcd-addr wrote", authz.GroupMasters, GroupClients)

// errNoCompaction refuses compactions by those who may not read the cluster's objects: there is one history, and the cluster's own
// watches would lose theirs.
var errNoCompaction = status.Errorf(codes.PermissionDenied, "etcdserver: permission denied: the history is the cluster's too, and is compacted with a certificate of %s only; it is bounded by itself", authz.GroupMasters)

// clientOf reads the certificate of a connection. Without TLS, which only tests and measurements go without, everything is allowed.
func (s *Server) clientOf(ctx context.Context) (client, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return client{}, errStranger
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return client{masters: s.cfg.TLS == nil, registry: s.cfg.TLS == nil && s.cfg.AllowRegistryWrites}, nil
	}
	if len(info.State.PeerCertificates) == 0 {
		return client{}, errStranger
	}
	groups := info.State.PeerCertificates[0].Subject.Organization
	switch {
	case slices.Contains(groups, authz.GroupMasters):
		return client{masters: true, registry: s.cfg.AllowRegistryWrites}, nil
	case slices.Contains(groups, GroupClients):
		return client{}, nil
	}
	return client{}, errStranger
}

// mayRead tells whether a client may read a span, or why not.
func (c client) mayRead(sp raftstore.Span) error {
	if !c.masters && overlaps(sp, raftstore.Prefix(registry)) {
		return status.Errorf(codes.PermissionDenied, "etcdserver: permission denied: keys below %s are read with a certificate of %s only", registry, authz.GroupMasters)
	}
	return nil
}

// mayWrite tells whether a client may write all of a span, or why not. A wide span passes over what is hidden.
func (c client) mayWrite(sp raftstore.Span) error {
	if !c.registry && overlaps(sp, raftstore.Prefix(registry)) {
		return status.Errorf(codes.PermissionDenied, "etcdserver: permission denied: keys below %s are the cluster's objects: write them with git or kubectl, or start the server with --etcd-allow-registry-writes", registry)
	}
	for _, h := range hidden {
		if within(sp, h) {
			return status.Errorf(codes.PermissionDenied, "etcdserver: permission denied: keys below %s belong to the server", strings.TrimSuffix(h.From, "/"))
		}
	}
	return nil
}
