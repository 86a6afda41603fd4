// Package link is a connection to the broker: its options, what the broker at its end must be, whether it has quorum, and patience while
// it starts or elects. It is independent of streams and buckets (package stream).
package link
