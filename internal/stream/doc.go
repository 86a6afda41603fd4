// Package stream is the one place that knows NATS: it makes the broker objects (Ensure), writes with acknowledgements by
// callback (Writer), reads and writes the KV records with compare-and-set (Bucket) and takes over the consumer of a
// partition (Partitions).
//
// It knows keys and bytes, not what a job is.
package stream
