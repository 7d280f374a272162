package object

import (
	rbacv1 "k8s.io/api/rbac/v1"
)

// rbacKinds are the kinds of the group rbac.
var rbacKinds = []Kind{
	{GVK: rbacv1.SchemeGroupVersion.WithKind("ClusterRole"), Resource: "clusterroles", Singular: "clusterrole",
		FromGit: true, Dormant: true, make: of[rbacv1.ClusterRole]},
	{GVK: rbacv1.SchemeGroupVersion.WithKind("ClusterRoleBinding"), Resource: "clusterrolebindings", Singular: "clusterrolebinding",
		FromGit: true, Dormant: true, make: of[rbacv1.ClusterRoleBinding]},
	{GVK: rbacv1.SchemeGroupVersion.WithKind("Role"), Resource: "roles", Singular: "role",
		Namespaced: true, FromGit: true, Dormant: true, make: of[rbacv1.Role]},
	{GVK: rbacv1.SchemeGroupVersion.WithKind("RoleBinding"), Resource: "rolebindings", Singular: "rolebinding",
		Namespaced: true, FromGit: true, Dormant: true, make: of[rbacv1.RoleBinding]},
}
