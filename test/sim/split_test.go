package sim

import (
	"bytes"
	"strconv"
)

// publication is a PUB or HPUB of the NATS protocol, or a MSG or HMSG that brings one.
type publication struct {
	subject string
	reply   string
	header  []byte
	data    []byte
}

type message struct {
	bytes     []byte
	publishes bool
	publication
}

// splitter cuts the byte stream of a client or of the broker into whole protocol messages.
type splitter struct{ rest []byte }

// add returns the messages that b completes; neighbours that publish nothing are joined.
func (s *splitter) add(b []byte) []message {
	s.rest = append(s.rest, b...)
	var out []message
	for {
		m, n := parseMessage(s.rest)
		if n == 0 {
			return out
		}
		m.bytes = s.rest[:n:n]
		s.rest = s.rest[n:]
		if last := len(out) - 1; !m.publishes && last >= 0 && !out[last].publishes {
			out[last].bytes = append(out[last].bytes, m.bytes...)
			continue
		}
		out = append(out, m)
	}
}

// parseMessage reads one message; n is its length, 0 while it is not whole.
func parseMessage(b []byte) (m message, n int) {
	end := bytes.Index(b, []byte("\r\n"))
	if end < 0 {
		return m, 0
	}
	line := b[:end]
	n = end + 2
	verb, _, _ := bytes.Cut(line, []byte(" "))
	fields, known := map[string]int{"PUB": 3, "HPUB": 4, "MSG": 4, "HMSG": 5}[string(verb)] // without a reply: it stands before the sizes
	if !known {
		return m, n
	}
	f := bytes.Fields(line)
	size, _ := strconv.Atoi(string(f[len(f)-1]))
	head, sizes := 0, 1
	if verb[0] == 'H' {
		sizes = 2
		head, _ = strconv.Atoi(string(f[len(f)-2]))
	}
	if len(b) < n+size+2 {
		return message{}, 0
	}
	m.publishes, m.subject = true, string(f[1])
	if len(f) > fields {
		m.reply = string(f[len(f)-sizes-1])
	}
	m.header, m.data = b[n:n+head], b[n+head:n+size]
	return m, n + size + 2
}

// with is the message as the broker would have sent it with another reply subject, header and payload.
func (m message) with(reply string, header, data []byte) []byte {
	line, _, _ := bytes.Cut(m.bytes, []byte("\r\n"))
	f := bytes.Fields(line)
	out := [][]byte{[]byte("MSG"), f[1], f[2]}
	if reply != "" {
		out = append(out, []byte(reply))
	}
	if len(header) > 0 {
		out[0] = []byte("HMSG")
		out = append(out, strconv.AppendInt(nil, int64(len(header)), 10))
	}
	out = append(out, strconv.AppendInt(nil, int64(len(header)+len(data)), 10))
	return bytes.Join([][]byte{bytes.Join(out, []byte(" ")), []byte("\r\n"), header, data, []byte("\r\n")}, nil)
}
