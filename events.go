package dspex

import (
	"context"
	"encoding/json"
	"iter"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/contract"
)

// Event is an event of the service: contract/events.md describes each.
type Event struct {
	Name string          // such as dspex.circuit_breaker.opened
	At   time.Time       // by the sender's clock
	Lost int             // events before it that came faster than they were taken
	Raw  json.RawMessage // the whole event
}

// EventFilter chooses events. Its zero value has those that the stream DSPEX_EVENTS keeps, too.
type EventFilter struct {
	Attempts bool // also the start, end or failure of each attempt of a job
}

// eventsHeld is how many events wait for a caller that is slow.
const eventsHeld = 4096

// Events are the service's events from now on, until the context ends. The permanent end of the connection is an
// error. It needs the permissions of an operator.
func (a *Admin) Events(ctx context.Context, f EventFilter) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		come := make(chan *nats.Msg, eventsHeld)
		subjects := []string{contract.SubjectEvents}
		if f.Attempts {
			subjects = append(subjects, contract.SubjectTelemetry+"*")
		}
		closed := a.c.nc.StatusChanged(nats.CLOSED)
		defer a.c.nc.RemoveStatusListener(closed)
		var subs []*nats.Subscription
		for _, subject := range subjects {
			sub, err := a.c.nc.ChanSubscribe(subject, come)
			if err != nil {
				yield(Event{}, transport(ctx, err, JobRef{}))
				return
			}
			defer func() { _ = sub.Unsubscribe() }()
			subs = append(subs, sub)
		}
		dropped := 0
		for {
			select {
			case <-ctx.Done():
				return
			case <-closed:
				yield(Event{}, transport(ctx, nats.ErrConnectionClosed, JobRef{}))
				return
			case m := <-come:
				e, err := readEvent(m.Data)
				all := lost(subs)
				e.Lost, dropped = all-dropped, all
				if !yield(e, err) || err != nil {
					return
				}
			}
		}
	}
}

func readEvent(body []byte) (Event, error) {
	var w struct {
		Event string    `json:"event"`
		At    time.Time `json:"at"`
	}
	if err := json.Unmarshal(body, &w); err != nil {
		return Event{}, badReply("an event is not the expected JSON: %v", err)
	}
	return Event{Name: w.Event, At: w.At, Raw: body}, nil
}
