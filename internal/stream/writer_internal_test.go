package stream

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
)

func TestAWriteWithoutAcknowledgementEndsAtAckTimeoutOrASecondLater(t *testing.T) {
	for _, after := range []time.Duration{0, 300 * time.Millisecond, 999 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			w := &Writer{pending: map[uint64]write{}, stop: make(chan struct{}), done: make(chan struct{})}
			go w.sweep()
			time.Sleep(after)
			began, ended := time.Now(), make(chan error, 1)
			w.mu.Lock()
			w.addLocked(func(_ Ack, err error) { ended <- err })
			w.mu.Unlock()
			if err := <-ended; !errors.Is(err, ErrUnknown) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(began); took < AckTimeout || took > AckTimeout+sweepPause {
				t.Errorf("after %v: it took %v", after, took)
			}
			close(w.stop)
			<-w.done
		})
	}
}

func TestABrokerThatHasTooMuchToStoreIsNoFullStoreAndNoUnknownEnd(t *testing.T) {
	_, err := parseAck(&nats.Msg{Data: []byte(`{"error":{"code":429,"err_code":10167,"description":"too many requests"},"stream":"DSPEX_JOBS","seq":0}`)})
	if !errors.Is(err, ErrBusy) || errors.Is(err, ErrStoreFull) || errors.Is(err, ErrUnknown) {
		t.Errorf("got %v", err)
	}
}
