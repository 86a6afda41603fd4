package stream_test

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
)

// A broker that has too much to do acknowledges late. It is not to be restarted for that.
func TestABrokerThatStoresAndDoesNotSaySoInTimeHasNoFullDisk(t *testing.T) {
	nc := natstest.Connect(t, natstest.Run(t))
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "SLOW", Subjects: []string{"dspex.probe.SLOW"}, NoAck: true}); err != nil {
		t.Fatal(err)
	}
	w, err := stream.NewWriter(nc)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	_, unknown := w.PublishSync(&nats.Msg{Subject: "dspex.probe.SLOW"})
	if err := stream.Diagnose(t.Context(), nc, w, "SLOW", unknown); errors.Is(err, stream.ErrStoreFull) || !errors.Is(err, stream.ErrUnknown) {
		t.Errorf("got %v", err)
	}
}
