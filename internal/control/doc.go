// Package control is what hosts and dispatchers report to each other: heartbeats, and requests to give partitions back. It also has what
// is kept in dspex_control (the leader, drained hosts, breakers that are not closed, the default language model, pushed programs).
//
// It does no input or output. The prose is contract/breakers.md and contract/job.md.
package control
