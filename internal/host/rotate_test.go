package host_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/fair"
	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/host"
	"github.com/dspex/dspex/internal/stream"
)

// TestSessionsWithPublishedJobsTakeTurns holds the fairness among sessions: none runs its second job while many others wait for
// their first, and a call of a session that was idle waits for none of them.
func TestSessionsWithPublishedJobsTakeTurns(t *testing.T) {
	host.SpareTokens(t, 32)
	const sessions = 400 // ten times as many as run at once
	inFakeTime(t, func(t *testing.T, y *system) {
		var mu sync.Mutex
		ran, before := map[string]int{}, 0
		y.script(func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			mu.Lock()
			defer mu.Unlock()
			if ran[c.Session]++; ran[c.Session] == 2 && before == 0 {
				before = len(ran)
			}
			return frame.Frame{}, nil, false
		})
		for job := range 2 {
			for n := range sessions {
				y.store(fmt.Sprint("dspex.session.s", n), fmt.Sprint("j", job), `{"command":"sleep","args":{"ms":50}}`)
			}
		}
		for n := range sessions {
			y.end(fmt.Sprint("s", n), "j1")
		}
		// Those of a partition whose jobs the broker delivers later than others' come later: not the host's doing.
		if before < sessions/2 {
			t.Errorf("when the first session ran its second job, %d of %d sessions had run their first", before, sessions)
		}
	})
}

func TestACallOfAnIdleSessionWaitsForNoTurnOfPublishedJobs(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.script(func(context.Context, frame.CallBody) (frame.Frame, error, bool) {
			time.Sleep(time.Second)
			return frame.Frame{}, nil, false
		})
		for n := range 400 { // more than run at once
			y.store(fmt.Sprint("dspex.session.s", n), "j", echo)
		}
		y.pass(500 * time.Millisecond)
		answered := make(chan reply)
		go func() { answered <- y.call("dspex.rpc.session.idle", "", echo) }()
		y.pass(100 * time.Millisecond)
		y.pool.mu.Lock()
		last := y.pool.wants[len(y.pool.wants)-1].Turn
		y.pool.mu.Unlock()
		if want := (fair.Key{Class: fair.Call, Tenant: "default", Fresh: true}); last != want {
			t.Errorf("the last that asked for a slot was %+v, expected %+v", last, want)
		}
		<-answered
	})
}

func TestAnAnonymousCallGetsItsShareBesideSessionsThatWait(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.script(func(context.Context, frame.CallBody) (frame.Frame, error, bool) {
			time.Sleep(time.Second)
			return frame.Frame{}, nil, false
		})
		for job := range 20 {
			for n := range 24 { // three times as many as there are slots
				y.store(fmt.Sprint("dspex.session.s", n), fmt.Sprint("j", job), echo)
			}
		}
		y.pass(2 * time.Second)
		for n := range 3 {
			if r := y.call("dspex.rpc.anonymous", "", echo); !r.OK {
				t.Errorf("call %d: %+v", n, r)
			}
		}
	})
}

// TestAJobOfAnotherTenantWaitsForOneSlotAlone holds the fairness among tenants: beside any number of one tenant's jobs another's requests a
// slot at once, and the first that is free is its own (TestCheckoutServesByTurn).
func TestAJobOfAnotherTenantWaitsForOneSlotAlone(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.script(func(context.Context, frame.CallBody) (frame.Frame, error, bool) {
			time.Sleep(time.Second)
			return frame.Frame{}, nil, false
		})
		for n := range 400 { // more than run at once
			y.store(fmt.Sprint("dspex.session.s", n), "j", echo)
		}
		y.takeTenants()
		y.pass(300 * time.Millisecond)
		y.store("dspex.t.other.session.s", "j", echo)
		y.pass(100 * time.Millisecond)
		y.pool.mu.Lock()
		last := y.pool.wants[len(y.pool.wants)-1].Turn
		y.pool.mu.Unlock()
		if want := (fair.Key{Class: fair.Queued, Tenant: "other", Fresh: true}); last != want {
			t.Errorf("the last that requested a slot was %+v, expected %+v", last, want)
		}
	})
}

// TestTenantsShareByWeight runs more sessions than have run tokens, of two tenants: those of one get three times as many.
func TestTenantsShareByWeight(t *testing.T) {
	host.SpareTokens(t, 0)
	inFakeTime(t, func(t *testing.T, y *system) {
		const each = 60
		var mu sync.Mutex
		var order []string
		open := make(chan struct{})
		y.script(func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			tenant, _, ok := strings.Cut(c.Session, "/")
			if !ok {
				<-open
				return frame.Frame{}, nil, false
			}
			mu.Lock()
			order = append(order, tenant)
			mu.Unlock()
			time.Sleep(50 * time.Millisecond)
			return frame.Frame{}, nil, false
		})
		y.takeTenants()
		for n := range 8 { // all slots, until all others wait
			y.store(fmt.Sprint("dspex.session.gate", n), "gate", echo)
		}
		s := y.host.Settings()
		s.Weights = fair.Weights{"acme": 3}
		y.host.Adjust(s)
		y.pass(time.Second)
		for n := range each {
			for _, tenant := range []string{"acme", "beta"} {
				y.store(fmt.Sprint("dspex.t.", tenant, ".session.s", n), "j", echo)
			}
		}
		y.pass(time.Second)
		close(open)
		y.pass(10 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if len(order) != 2*each {
			t.Fatalf("%d jobs ran, expected %d", len(order), 2*each)
		}
		acme := strings.Count(strings.Join(order[:each], " "), "acme")
		if acme < each*3/4-3 || acme > each*3/4+3 { // the first of each tenant has a token beyond the number
			t.Errorf("%d jobs of acme are among the first %d, expected three quarters: %v", acme, each, order)
		}
	})
}

// takeTenants lets the stream take jobs under the subjects of tenants, as a broker with accounts does.
func (y *system) takeTenants() {
	y.t.Helper()
	js, err := jetstream.New(y.nc)
	if err != nil {
		y.t.Fatal(err)
	}
	s, err := js.Stream(context.Background(), stream.Jobs)
	if err != nil {
		y.t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.Subjects = append(cfg.Subjects, "dspex.t.*.session.*")
	to := strings.Replace(cfg.SubjectTransform.Destination, ".default.", ".{{wildcard(1)}}.", 1)
	cfg.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "dspex.t.*.*.*",
		Destination: strings.NewReplacer(",2)", ",3)", "{{wildcard(2)}}.{{wildcard(1)}}", "{{wildcard(3)}}.{{wildcard(2)}}").Replace(to)}
	if _, err := js.UpdateStream(context.Background(), cfg); err != nil {
		y.t.Fatal(err)
	}
}
