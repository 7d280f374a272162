package authz

import (
	"context"
	"slices"
)

// The names that Kubernetes gives to users and groups.
const (
	Anonymous          = "system:anonymous"
	GroupAuthenticated = "system:authenticated"
	GroupAnonymous     = "system:unauthenticated"
	GroupMasters       = "system:masters"
	GroupNodes         = "system:nodes"
	nodePrefix         = "system:node:"
)

// User is who asks.
type User struct {
	Name   string
	Groups []string
	// UID and Extra are what is known of the user besides, by Kubernetes' names; nil for users of certificates.
	UID   string
	Extra map[string][]string
}

// AnonymousUser is who asks without credentials.
func AnonymousUser() User { return User{Name: Anonymous, Groups: []string{GroupAnonymous}} }

// In tells whether the user is in a group.
func (u User) In(group string) bool { return slices.Contains(u.Groups, group) }

// Node is the name of the node whose agent the user is, or "".
func (u User) Node() string {
	if !u.In(GroupNodes) || len(u.Name) <= len(nodePrefix) || u.Name[:len(nodePrefix)] != nodePrefix {
		return ""
	}
	return u.Name[len(nodePrefix):]
}

type userKey struct{}

// WithUser returns a context that carries who asks, for handlers behind api's door (git, gitops).
func WithUser(ctx context.Context, u User) context.Context {
	return context.WithValue(ctx, userKey{}, u)
}

// UserFrom is who asks; anonymous if the context carries nobody.
func UserFrom(ctx context.Context) User {
	if u, ok := ctx.Value(userKey{}).(User); ok {
		return u
	}
	return AnonymousUser()
}
