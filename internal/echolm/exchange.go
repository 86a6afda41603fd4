package echolm

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// exchange is one request with its answer and the script it runs under.
type exchange struct {
	server *Server
	w      http.ResponseWriter
	r      *http.Request
	wire   wire
	c      *conversation
	a      answer
	script Script
	number uint64
}

// usage counts tokens as the echo sees them: one for four bytes of prompt, one for each delta of the answer.
type usage struct{ prompt, completion int }

func (x *exchange) usage() usage {
	var u usage
	for _, m := range x.c.messages {
		u.prompt += (len(m.Content)+3)/4 + 1
	}
	for rest := x.a.content + x.a.callArgs; rest != ""; u.completion++ {
		_, rest = delta(rest, u.completion)
	}
	u.completion *= x.c.choices
	return u
}

// finish is the finish_reason: the script's, else what fits the answer.
func (x *exchange) finish() string {
	switch {
	case x.script.Finish != "":
		return x.script.Finish
	case x.a.call != "":
		return "tool_calls"
	}
	return "stop"
}

// delta cuts the piece of up to eight characters off that is sent as delta number i. DSPy's stream listeners see no tokens
// if an answer comes in one piece.
func delta(s string, i int) (piece, rest string) {
	size := 4 + i*3%5
	for end := range s {
		if size == 0 {
			return s[:end], s[end:]
		}
		size--
	}
	return s, ""
}

// buffers holds the bodies under construction.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 8<<10); return &b }}

// run plays the script, then answers.
func (x *exchange) run() {
	if !x.server.wait(x.r.Context(), x.script.Latency) {
		x.left()
	}
	switch {
	case x.script.Status != 0:
		x.fail()
	case x.script.Cut == CutAccept:
		x.cut()
	case x.script.Bad:
		x.bad()
	case x.c.stream:
		x.stream()
	default:
		x.whole()
	}
}

// left ends an exchange whose client has gone, or whose server is closed. Like a cut it drops the connection: panicking
// with ErrAbortHandler is net/http's only way to do that without a word.
func (x *exchange) left() {
	if x.server.alive.Err() == nil {
		x.server.counts.left.Add(1)
	}
	panic(http.ErrAbortHandler)
}

func (x *exchange) cut() {
	x.server.counts.faults.Add(1)
	panic(http.ErrAbortHandler)
}

func (x *exchange) fail() {
	x.server.counts.faults.Add(1)
	if x.script.RetryAfter > 0 {
		x.w.Header().Set("Retry-After", strconv.FormatInt(int64(x.script.RetryAfter/time.Second), 10))
	}
	code := x.script.Code
	if code == "" {
		code = "echo_script"
	}
	kind := "server_error"
	if x.script.Status < 500 {
		kind = "invalid_request_error"
	}
	writeJSON(x.w, x.script.Status, errorBody(kind, code, "echo: status "+strconv.Itoa(x.script.Status)+" by script"))
}

func (x *exchange) bad() {
	x.server.counts.faults.Add(1)
	if x.c.stream {
		setHeader(x.w, "Content-Type", eventsHeader)
		x.send([]byte("data: echo: this is not JSON\n\n"))
		return
	}
	setHeader(x.w, "Content-Type", jsonHeader)
	x.send([]byte("echo: this is not JSON"))
}

// whole sends an answer that is not streamed.
func (x *exchange) whole() {
	u := x.usage()
	if !x.server.wait(x.r.Context(), time.Duration(u.completion)*x.script.TokenDelay) {
		x.left()
	}
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	body := x.wire.whole((*buffer)[:0], x, u)
	*buffer = body[:0]
	setHeader(x.w, "Content-Type", jsonHeader)
	x.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	switch x.script.Cut {
	case CutHead:
		body = nil
	case CutBody:
		body = body[:len(body)/2]
	}
	x.send(body)
	x.done()
}

// send writes and flushes if more is to come than net/http would write by itself.
func (x *exchange) send(b []byte) {
	control := http.NewResponseController(x.w)
	_ = control.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := x.w.Write(b); err != nil {
		x.left()
	}
	if x.c.stream || x.script.Cut != CutNowhere {
		if control.Flush() != nil {
			x.left()
		}
	}
}

// done ends an answer that was sent, or cuts it off.
func (x *exchange) done() {
	if x.script.Cut != CutNowhere {
		x.cut()
	}
	x.server.counts.answered.Add(1)
}

// stream sends an answer as events. Without a delay between tokens they go out in one write: the client sees the same
// events, and the echo spends one system call.
func (x *exchange) stream() {
	u := x.usage()
	setHeader(x.w, "Content-Type", eventsHeader)
	setHeader(x.w, "Cache-Control", noStore)
	if x.script.Cut == CutHead {
		x.send(nil)
		x.cut()
	}
	stop := u.completion/x.c.choices + 1
	if x.script.Cut == CutBody {
		stop = max(1, stop/2)
	}
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	b := x.wire.open((*buffer)[:0], x)
	i := 0
	for rest := x.a.content; rest != "" && i < stop; i++ {
		var piece string
		piece, rest = delta(rest, i)
		if x.script.TokenDelay > 0 {
			if !x.server.wait(x.r.Context(), x.script.TokenDelay) {
				x.left()
			}
		}
		b = x.wire.delta(b, x, piece)
		if x.script.TokenDelay > 0 || len(b) > 64<<10 {
			x.send(b)
			b = b[:0]
		}
	}
	if x.script.Cut != CutBody {
		b = x.wire.close(b, x, u)
	}
	*buffer = b[:0]
	x.send(b)
	x.done()
}
