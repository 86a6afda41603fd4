package dspex_test

import (
	"strconv"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/contract"
)

// Who reads slower than the model writes may miss pieces, and gets the reply.
func TestASlowReaderOfAStreamGetsTheReply(t *testing.T) {
	ctx, c := clientOf(t, map[string]nats.MsgHandler{contract.RPCSession + ">": func(m *nats.Msg) {
		for n := range 100_000 {
			part := &nats.Msg{Data: []byte(`{"field": "answer", "chunk": "x"}`), Header: nats.Header{contract.HeaderPartial: {strconv.Itoa(n)}}}
			if err := m.RespondMsg(part); err != nil {
				t.Error(err)
				return
			}
			if m.Header.Get(contract.HeaderJob) == "short" {
				break
			}
		}
		succeed(m)
	}})
	chunks, last := 0, dspex.Chunk{}
	for chunk, err := range c.Stream(ctx, "s", "predict", nil) {
		if err != nil {
			t.Fatal(err)
		}
		if chunks++; chunks == 1 { // what comes to a later call comes behind all pieces of this one
			for _, err := range c.Stream(ctx, "s", "predict", nil, dspex.WithJobID("short")) {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		last = chunk
	}
	if last.Reply == nil || string(last.Reply.Result) != "1" {
		t.Errorf("the last of %d pieces is %+v, want the reply", chunks, last)
	}
}
