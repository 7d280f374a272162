package raftstore

// lone tells whether this member is the only voter. raft waits for a whole heartbeat timeout before it stands for election, also where
// nobody else could lead; a lone voter is told at once to stand (wire.stand), so that it leads milliseconds after the start, and not
// seconds.
func (s *Store) lone() bool {
	servers, err := s.Servers()
	if err != nil {
		return false
	}
	voters, self := 0, false
	for _, m := range servers {
		if m.Voter {
			voters++
			self = self || m.ID == s.id.ServerID
		}
	}
	return voters == 1 && self
}
