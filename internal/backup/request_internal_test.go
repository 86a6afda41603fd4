package backup

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/natstest"
)

func TestWhatNobodyHasReceivedYetIsSentAgain(t *testing.T) {
	s := natstest.Run(t)
	r := &restorer{nc: natstest.Connect(t, s)}
	answered := make(chan error, 1)
	go func() {
		_, err := r.request(t.Context(), "where.a.copy.goes", []byte("part"))
		answered <- err
	}()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for r.nc.Stats().OutMsgs < 2 {
		<-tick.C
	}
	if _, err := natstest.Connect(t, s).Subscribe("where.a.copy.goes", func(m *nats.Msg) { _ = m.Respond(nil) }); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
}
