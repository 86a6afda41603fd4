// Package batch decides about batches: many jobs that are submitted together and end together (contract/batch.md, ADR 55).
//
// It does no I/O. Record, Chunk and Part are what is stored of a batch. The functions of change.go report what a request makes of a record. Run
// decides what the leading dispatcher does next: an event goes in, actions come out, and the leader may die between any two of them.
package batch
