package backup

import (
	"bytes"
	"maps"
	"slices"

	"github.com/nats-io/nats.go"
)

// encodeHeader writes headers in the form that NATS keeps them.
func encodeHeader(h nats.Header) []byte {
	var b bytes.Buffer
	b.WriteString("NATS/1.0\r\n")
	for _, key := range slices.Sorted(maps.Keys(h)) {
		for _, value := range h[key] {
			b.WriteString(key + ": " + value + "\r\n")
		}
	}
	b.WriteString("\r\n")
	return b.Bytes()
}
