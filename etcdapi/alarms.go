package etcdapi

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"reconcile/raftstore"
)

// Alarm is what a member has to complain of.
type Alarm struct {
	// Corrupt tells that its store has stopped because of what it found.
	Corrupt bool `json:"corrupt,omitempty"`
	// NoSpace tells that its disk has too little room.
	NoSpace bool `json:"noSpace,omitempty"`
}

// AlarmOf looks at this member's own store.
func AlarmOf(store *raftstore.Store) (a Alarm) {
	select {
	case <-store.Failed():
		a.Corrupt = true
	default:
	}
	a.NoSpace = errors.Is(store.Space(), raftstore.ErrNoSpace)
	return a
}

// alarmTimeout is how long another member is waited for. One that does not answer is no alarm: `endpoint health` shows it.
const alarmTimeout = time.Second

// alarms are those of all members, in their order, of one kind or (NONE) of all.
func (s *Server) alarms(ctx context.Context, kind pb.AlarmType) ([]*pb.AlarmMember, error) {
	servers, err := s.cfg.Store.Servers()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, alarmTimeout)
	defer cancel()
	found := make([]Alarm, len(servers))
	var wg sync.WaitGroup
	for i, sv := range servers {
		switch {
		case sv.ID == s.cfg.Store.Identity().ServerID:
			found[i] = AlarmOf(s.cfg.Store)
		case s.cfg.AskAlarm != nil:
			wg.Go(func() {
				a, err := s.cfg.AskAlarm(ctx, sv)
				if err != nil {
					s.cfg.Log.Debug("a member does not say whether it has alarms", "member", sv.ID, "error", err)
				}
				found[i] = a
			})
		}
	}
	wg.Wait()
	var out []*pb.AlarmMember
	note := func(i int, is bool, what pb.AlarmType) {
		if is && (kind == pb.AlarmType_NONE || kind == what) {
			out = append(out, &pb.AlarmMember{MemberID: number(servers[i].ID), Alarm: what})
		}
	}
	for i, a := range found {
		note(i, a.Corrupt, pb.AlarmType_CORRUPT)
		note(i, a.NoSpace, pb.AlarmType_NOSPACE)
	}
	return out, nil
}

// alarmText is how etcd names an alarm among a member's errors.
func alarmText(a *pb.AlarmMember) string {
	return fmt.Sprintf("memberID:%d alarm:%s", a.MemberID, a.Alarm)
}
