// Package contract is the NATS wire of contract/*.md in Go: subjects, headers, lanes, codes, bounds and the forms of ids. The
// public client, the programs and the stand-in of the tests share it, so each of these is written once.
//
// It is a leaf: it imports the standard library alone, opens nothing and keeps nothing. What a job is, is package jobs.
package contract
