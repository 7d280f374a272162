package etcdapi

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errNoAuth answers all of etcd's own users and roles: rights follow from certificates here.
var errNoAuth = status.Errorf(codes.Unimplemented, "etcdserver: this server has no users and roles of etcd: rights follow from the group (organisation) of the client's certificate, which the cluster's authority signs")

// authService says so.
type authService struct{ pb.UnimplementedAuthServer }

// AuthStatus implements etcdserverpb.AuthServer: authentication by password is off.
func (authService) AuthStatus(context.Context, *pb.AuthStatusRequest) (*pb.AuthStatusResponse, error) {
	return &pb.AuthStatusResponse{Header: &pb.ResponseHeader{}}, nil
}

// AuthEnable implements etcdserverpb.AuthServer.
func (authService) AuthEnable(context.Context, *pb.AuthEnableRequest) (*pb.AuthEnableResponse, error) {
	return nil, errNoAuth
}

// AuthDisable implements etcdserverpb.AuthServer.
func (authService) AuthDisable(context.Context, *pb.AuthDisableRequest) (*pb.AuthDisableResponse, error) {
	return nil, errNoAuth
}

// Authenticate implements etcdserverpb.AuthServer.
func (authService) Authenticate(context.Context, *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	return nil, errNoAuth
}

// UserAdd implements etcdserverpb.AuthServer.
func (authService) UserAdd(context.Context, *pb.AuthUserAddRequest) (*pb.AuthUserAddResponse, error) {
	return nil, errNoAuth
}

// UserGet implements etcdserverpb.AuthServer.
func (authService) UserGet(context.Context, *pb.AuthUserGetRequest) (*pb.AuthUserGetResponse, error) {
	return nil, errNoAuth
}

// UserList implements etcdserverpb.AuthServer.
func (authService) UserList(context.Context, *pb.AuthUserListRequest) (*pb.AuthUserListResponse, error) {
	return nil, errNoAuth
}

// UserDelete implements etcdserverpb.AuthServer.
func (authService) UserDelete(context.Context, *pb.AuthUserDeleteRequest) (*pb.AuthUserDeleteResponse, error) {
	return nil, errNoAuth
}

// UserChangePassword implements etcdserverpb.AuthServer.
func (authService) UserChangePassword(context.Context, *pb.AuthUserChangePasswordRequest) (*pb.AuthUserChangePasswordResponse, error) {
	return nil, errNoAuth
}

// UserGrantRole implements etcdserverpb.AuthServer.
func (authService) UserGrantRole(context.Context, *pb.AuthUserGrantRoleRequest) (*pb.AuthUserGrantRoleResponse, error) {
	return nil, errNoAuth
}

// UserRevokeRole implements etcdserverpb.AuthServer.
func (authService) UserRevokeRole(context.Context, *pb.AuthUserRevokeRoleRequest) (*pb.AuthUserRevokeRoleResponse, error) {
	return nil, errNoAuth
}

// RoleAdd implements etcdserverpb.AuthServer.
func (authService) RoleAdd(context.Context, *pb.AuthRoleAddRequest) (*pb.AuthRoleAddResponse, error) {
	return nil, errNoAuth
}

// RoleGet implements etcdserverpb.AuthServer.
func (authService) RoleGet(context.Context, *pb.AuthRoleGetRequest) (*pb.AuthRoleGetResponse, error) {
	return nil, errNoAuth
}

// RoleList implements etcdserverpb.AuthServer.
func (authService) RoleList(context.Context, *pb.AuthRoleListRequest) (*pb.AuthRoleListResponse, error) {
	return nil, errNoAuth
}

// RoleDelete implements etcdserverpb.AuthServer.
func (authService) RoleDelete(context.Context, *pb.AuthRoleDeleteRequest) (*pb.AuthRoleDeleteResponse, error) {
	return nil, errNoAuth
}

// RoleGrantPermission implements etcdserverpb.AuthServer.
func (authService) RoleGrantPermission(context.Context, *pb.AuthRoleGrantPermissionRequest) (*pb.AuthRoleGrantPermissionResponse, error) {
	return nil, errNoAuth
}

// RoleRevokePermission implements etcdserverpb.AuthServer.
func (authService) RoleRevokePermission(context.Context, *pb.AuthRoleRevokePermissionRequest) (*pb.AuthRoleRevokePermissionResponse, error) {
	return nil, errNoAuth
}
