package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// fan is a load of watches, each a stream of its own, on one prefix that writers write to. Etcd's client takes longer to read an event than either
// server to send it; this one counts events and reads nothing else of them. What is measured begins when all watches are there.
type fan struct{ watches, writers, puts int }

func fans() []fan { return []fan{{1000, 64, 2000}, {10000, 8, 120}} }

func (f fan) name() string {
	return fmt.Sprintf("watch, %d watches of one prefix, %d writers, thin client", f.watches, f.writers)
}

const fanConns = 20

// run gives the load to a cluster.
func (f fan) run(ctx context.Context, c *cluster, scale float64) (figure, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	puts := max(int(float64(f.puts)*scale), f.writers)
	want := int64(puts) * int64(f.watches)
	var got atomic.Int64
	all := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	conns := make([]*grpc.ClientConn, fanConns)
	for i := range conns {
		var err error
		if conns[i], err = grpc.NewClient(c.endpoints[i%len(c.endpoints)], grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
			return figure{}, err
		}
		defer func() { _ = conns[i].Close() }()
	}
	errs := make(chan error, f.watches)
	for i := range f.watches {
		s, err := watchFan(ctx, conns[i%fanConns])
		if err != nil {
			return figure{}, err
		}
		wg.Go(func() {
			var n eventCount
			for {
				if err := s.RecvMsg(&n); err != nil {
					errs <- err
					return
				}
				// A write that was repeated makes more events than one.
				if now := got.Add(int64(n)); now >= want && now-int64(n) < want {
					close(all)
				}
			}
		})
	}
	spent, began := c.cpu(), time.Now()
	if err := f.write(ctx, c, puts); err != nil {
		return figure{}, err
	}
	select {
	case <-all:
	case err := <-errs:
		return figure{}, err
	case <-ctx.Done():
		return figure{}, fmt.Errorf("%d of %d events came: %w", got.Load(), want, ctx.Err())
	}
	took := time.Since(began).Seconds()
	return figure{rate: float64(want) / took, cost: (c.cpu() - spent).Seconds() * 1e6 / float64(want)}, nil
}

// watchFan opens a stream with one watch and returns when the server has made it.
func watchFan(ctx context.Context, conn *grpc.ClientConn) (grpc.ClientStream, error) {
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/etcdserverpb.Watch/Watch", grpc.ForceCodec(countCodec{}), grpc.WaitForReady(true))
	if err != nil {
		return nil, err
	}
	create := &pb.WatchCreateRequest{Key: []byte("fan/"), RangeEnd: []byte("fan0")}
	if err := s.SendMsg(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}); err != nil {
		return nil, err
	}
	var n eventCount
	return s, s.RecvMsg(&n)
}

// write writes values of 256 bytes to keys below the prefix.
func (f fan) write(ctx context.Context, c *cluster, puts int) error {
	cl, err := clientv3.New(clientv3.Config{Endpoints: c.endpoints, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer func() { _ = cl.Close() }() // nothing is lost with it
	value := strings.Repeat("v", 256)
	var next atomic.Int64
	errs := make(chan error, f.writers)
	var wg sync.WaitGroup
	for range f.writers {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(puts); i = next.Add(1) {
				var err error
				for range 5 { // a server with too much to do may take too long
					if _, err = cl.Put(ctx, fmt.Sprintf("fan/%04d", i%1000), value); err == nil || ctx.Err() != nil {
						break
					}
				}
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

// eventCount is the number of events in a WatchResponse.
type eventCount int

// countCodec encodes messages, and of answers only counts the events.
type countCodec struct{}

// Name implements encoding.Codec.
func (countCodec) Name() string { return "proto" }

// Marshal implements encoding.Codec.
func (countCodec) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("a %T is no message", v)
	}
	return proto.Marshal(m)
}

// fieldEvents is the number of WatchResponse.events.
const fieldEvents = 11

// Unmarshal implements encoding.Codec.
func (countCodec) Unmarshal(b []byte, v any) error {
	n, ok := v.(*eventCount)
	if !ok {
		return fmt.Errorf("a %T is no eventCount", v)
	}
	*n = 0
	for len(b) > 0 {
		field, kind, w := protowire.ConsumeTag(b)
		if w < 0 {
			return errors.New("an answer cannot be read")
		}
		size := protowire.ConsumeFieldValue(field, kind, b[w:])
		if size < 0 {
			return errors.New("an answer cannot be read")
		}
		if b = b[w+size:]; field == fieldEvents {
			*n++
		}
	}
	return nil
}
