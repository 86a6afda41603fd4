package dspex

import (
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/contract"
)

func TestWhatAStreamKeepsForAReaderIsBoundedButForTheReply(t *testing.T) {
	in := &inbox{ready: make(chan struct{}, 1)}
	piece := func() *nats.Msg {
		return &nats.Msg{Data: make([]byte, 1000), Header: nats.Header{contract.HeaderPartial: {"1"}}}
	}
	for range 2 * unread / 1000 {
		in.take(piece())
	}
	in.take(&nats.Msg{Data: make([]byte, 2*unread)})
	pieces := 0
	for {
		m, err := in.read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if m.Header == nil {
			break
		}
		pieces++
	}
	if most := unread / piece().Size(); pieces != most {
		t.Errorf("%d pieces were kept, want %d", pieces, most)
	}
	if in.take(piece()); len(in.waiting) != 1 || in.bytes != piece().Size() {
		t.Errorf("%d pieces of %d bytes wait, want the one that came when all was read", len(in.waiting), in.bytes)
	}
}
