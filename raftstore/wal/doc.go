// Package wal keeps raft's log in segment files, with one fdatasync an append.
//
// It owns a folder of segments and knows entries as raft does: index, term, type and bytes whose meaning it does not look at. Every
// entry has a checksum that is checked whenever it is read, and every segment knows the one before it, so that a flipped bit, a stale
// sector, and a cut, swapped or missing file are errors that name the file (Damaged), never other entries than were written. What an
// append that a crash interrupted left behind is cut off. What one cannot tell from that, the end of a log that was whole, is for
// the owner to notice, who notes how far the log has reached (raftstore's mark).
//
// How data passes through: StoreLogs frames a batch, writes it at the end of the newest segment with one write, syncs, and returns;
// GetLog reads a frame by its offset. A full segment is followed by one that a goroutine has prepared. DeleteRange drops whole segments
// at the front, and cuts the end by beginning a segment that makes later entries void.
package wal
