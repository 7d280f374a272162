package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"time"

	"reconcile/etcdapi"
	"reconcile/pki"
	"reconcile/sequencer"
)

// etcdMembers are the keys under which servers tell how etcd's API is reached on them.
const etcdMembers = "/reconcile/etcd/members/"

// EtcdClientSpec is the certificate for programs that use etcd's API for keys of their own: it does not read the cluster's objects.
func EtcdClientSpec() pki.Spec {
	return pki.Spec{Name: "etcd-client", CommonName: "etcd-client", Groups: []string{etcdapi.GroupClients}}
}

// openEtcd takes the port of etcd's API and makes its server, if it is asked for.
func (s *Server) openEtcd(ctx context.Context) error {
	if s.cfg.EtcdListen == "" {
		return nil
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", s.cfg.EtcdListen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; choose another address with --etcd-addr", s.cfg.EtcdListen, err)
	}
	s.etcd, err = etcdapi.New(etcdapi.Config{
		Store: s.store, Sequencer: s.seq, Members: s.etcdMembers, AskAlarm: s.peers.AskAlarm, Objects: true, AllowRegistryWrites: s.cfg.EtcdRegistryWrites, Log: s.cfg.Log,
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{s.identity.Cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: s.pool},
	})
	if err != nil {
		ln.Close()
		return err
	}
	s.etcdLn = ln
	return nil
}

// EtcdURL is where clients reach etcd's API on this server, or empty.
func (s *Server) EtcdURL() string {
	if s.etcdLn == nil {
		return ""
	}
	host, port, err := net.SplitHostPort(s.cfg.EtcdListen)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		if host, _, err = net.SplitHostPort(s.cfg.Advertise); err != nil {
			return ""
		}
	}
	return "https://" + net.JoinHostPort(host, port)
}

// etcdMembers are what the servers told.
func (s *Server) etcdMembers() []etcdapi.Member {
	var out []etcdapi.Member
	for r := range s.store.View().Range(etcdMembers) {
		var m etcdapi.Member
		if json.Unmarshal(r.Value, &m) == nil {
			out = append(out, m)
		}
	}
	return out
}

// runEtcd serves etcd's API until ctx ends, and tells the other servers where.
func (s *Server) runEtcd(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.announceEtcd(ctx)
	}()
	err := s.etcd.Run(ctx, s.etcdLn)
	<-done
	return err
}

// announceEtcd writes this server's name and URLs, if they are not written yet.
func (s *Server) announceEtcd(ctx context.Context) {
	id := s.store.Identity().ServerID
	m, err := json.Marshal(etcdapi.Member{ID: id, Name: s.cfg.Name, PeerURLs: []string{"https://" + s.cfg.Advertise}, ClientURLs: []string{s.EtcdURL()}})
	for err == nil && ctx.Err() == nil {
		turn, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := s.seq.Barrier(turn)
		if r, ok := s.store.View().Get(etcdMembers + id); err == nil && ok && bytes.Equal(r.Value, m) {
			cancel()
			return
		}
		if err == nil {
			_, err = s.seq.Submit(turn, sequencer.Request{User: "reconcile:server:" + id, Raw: []sequencer.Raw{{Key: etcdMembers + id, Value: m}}})
		}
		cancel()
		if err == nil {
			return
		}
		s.cfg.Log.Debug("cannot tell where etcd's API is served; trying again", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}
