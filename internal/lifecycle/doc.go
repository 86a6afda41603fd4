// Package lifecycle decides what happens to a job, from its delivery to its acknowledgement. It is the core of a host: a state
// machine that does no I/O, starts no goroutine, holds no lock and reads no clock. A Core is given one Event at a time and
// answers with Actions; whoever drives it carries them out and reports how they went as further events.
//
// A Core is one session during one epoch of its partition, or one anonymous job. Both live the same life; they differ in where
// it is written down, which is a ledger: a session's is its record, changed by compare-and-set, an anonymous job's is the key of
// its result. The files in testdata tell the rules as scenarios: events in, actions out.
//
// It does not know NATS, Python, or how a worker is chosen.
package lifecycle
