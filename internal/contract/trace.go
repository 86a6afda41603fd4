package contract

import "encoding/hex"

// HeaderTraceparent names the span that a job is below of, as W3C Trace Context has it: version 00, trace id, span id, flags.
const HeaderTraceparent = "traceparent"

// Untraced is the traceparent of a job that begins a trace which is not sampled: hosts make no spans of it, and there is no id to look it up by.
const Untraced = "00-00000000000000000000000000000001-0000000000000001-00"

const traceparentLength = 2 + 1 + 32 + 1 + 16 + 1 + 2

// shapedAsTraceparent looks at the length, the version and the dashes.
func shapedAsTraceparent(text string) bool {
	if len(text) < traceparentLength {
		return false
	}
	for _, at := range []int{2, 35, 52} {
		if text[at] != '-' {
			return false
		}
	}
	switch text[:2] {
	case "ff":
		return false
	case "00":
		return len(text) == traceparentLength
	}
	return len(text) == traceparentLength || text[traceparentLength] == '-'
}

// ParseTraceparent reads a traceparent. Of a later version the beginning counts, which is the same.
func ParseTraceparent(text string) (trace [16]byte, span [8]byte, sampled, ok bool) {
	if !shapedAsTraceparent(text) {
		return trace, span, false, false
	}
	var version, flags [1]byte
	for _, part := range []struct {
		to   []byte
		from string
	}{{version[:], text[:2]}, {trace[:], text[3:35]}, {span[:], text[36:52]}, {flags[:], text[53:55]}} {
		for i := range len(part.from) {
			if c := part.from[i]; c >= 'A' && c <= 'F' {
				return trace, span, false, false
			}
		}
		if _, err := hex.Decode(part.to, []byte(part.from)); err != nil {
			return trace, span, false, false
		}
	}
	ok = trace != [16]byte{} && span != [8]byte{}
	return trace, span, flags[0]&1 == 1, ok
}

// Traceparent writes one.
func Traceparent(trace [16]byte, span [8]byte, sampled bool) string {
	b := append(make([]byte, 0, traceparentLength), "00-"...)
	b = append(hex.AppendEncode(b, trace[:]), '-')
	b = append(hex.AppendEncode(b, span[:]), "-00"...)
	if sampled {
		b[len(b)-1] = '1'
	}
	return string(b)
}
