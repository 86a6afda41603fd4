package sessions

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/host/ownership"
	"github.com/dspex/dspex/internal/stream"
)

// resets counts the requests for a reset, each of which is answered when the test allows it.
type resets struct {
	jetstream.JetStream
	asked   int
	answers chan struct{}
}

func (r *resets) ResetConsumer(context.Context, string, string) (*jetstream.ConsumerResetResponse, error) {
	r.asked++
	<-r.answers
	return nil, nil
}

func TestAResetThatIsWantedBeforeTheLastOneBroughtAJobIsMadeToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &resets{answers: make(chan struct{})}
		p := &partition{service: &service{on: &stream.Access{JS: r}, owned: &ownership.Ownership{Work: t.Context()}}}
		p.reset()
		synctest.Wait()
		p.reset() // the connection was lost meanwhile
		p.reset()
		r.answers <- struct{}{}
		synctest.Wait()
		if r.asked != 2 {
			t.Errorf("%d resets are asked for while one is under way, want one more", r.asked-1)
		}
		close(r.answers)
		p.owned.Running.Wait()
		p.reset()
		p.owned.Running.Wait()
		if r.asked != 3 {
			t.Errorf("after all %d resets were made, want one more", r.asked)
		}
	})
}

func TestWhenTheFirstDeliveryBehindAResetIsLostALaterOneAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &resets{answers: make(chan struct{})}
		close(r.answers)
		p := &partition{service: &service{on: &stream.Access{JS: r}, owned: &ownership.Ownership{Work: t.Context()}}}
		p.reset()
		p.owned.Running.Wait()
		time.Sleep(resetPatience)
		if p.inOrder(2) {
			t.Error("a delivery counts, though the first one behind the reset has not come")
		}
		p.owned.Running.Wait()
		if r.asked != 1 {
			t.Error("another reset is asked for, though the first delivery may be on its way")
		}
		time.Sleep(time.Millisecond)
		p.inOrder(3)
		p.owned.Running.Wait()
		if r.asked != 2 {
			t.Error("no other reset is asked for, though the first delivery must be lost")
		}
		if !p.inOrder(1) || !p.inOrder(2) {
			t.Error("deliveries behind the second reset do not count")
		}
	})
}

func TestADeliveryCountsAsLostWhenItWasMissingTwice(t *testing.T) {
	p := &partition{next: 1}
	comes := func() {
		if p.resetting {
			p.next = 1
		}
		p.inOrder(p.next)
	}
	for _, step := range []struct {
		what string
		does func()
		sent uint64
		want bool
	}{
		{"nothing was sent", nil, 0, false},
		{"it is under way", nil, 1, false},
		{"it has not come", nil, 1, true},
		{"it came at last", comes, 1, false},
		{"the second is under way", nil, 2, false},
		{"it came, the third is under way", comes, 3, false},
		{"a reset was made, the first behind it is under way", func() { p.resetting = true }, 3, false},
		{"it has not come", nil, 1, true},
		{"another reset is under way", func() { p.requesting = true }, 1, false},
		{"the first behind it is under way", func() { p.requesting = false }, 1, false},
		{"it has come", comes, 1, false},
	} {
		if step.does != nil {
			step.does()
		}
		if got := p.misses(step.sent); got != step.want {
			t.Errorf("%s: lost %v, want %v", step.what, got, step.want)
		}
	}
}
