package intake

import (
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/service"
)

const (
	// smallRequest is one that needs no room while it waits for an outcome, which may be long: their number is bounded.
	smallRequest = 4 << 10
	// PendingBytes of an endpoint's subscription are thrown away without an answer. It is above all that a broker sends before the
	// subscription gets to run, on a machine that has little time for it.
	PendingBytes = 256 << 20
)

// Entrance lets requests in that are not too large, as long as there is room for them.
type Entrance struct {
	Largest int // bytes of a request; 0: any

	room   room
	lines  *lines
	refuse func(service.Request, *jobs.Error)
}

// New makes one that refuses requests with refuse.
func New(refuse func(service.Request, *jobs.Error)) *Entrance {
	return &Entrance{lines: newLines(), refuse: refuse}
}

// Jobs is the entrance of requests that become jobs. They are taken as soon as they come, and given to f one at a time, in that order.
// What f does not answer counts until it is Stored.
func (en *Entrance) Jobs(f func(service.Request)) func(service.Request) {
	return en.taking(0, en.lines.line(f))
}

// Others is the entrance of all others.
func (en *Entrance) Others(f func(service.Request)) func(service.Request) {
	return en.taking(smallRequest, f)
}

// End returns when all that was let in is served. Nothing may come any more.
func (en *Entrance) End() { en.lines.end() }

// taking refuses requests that are too large, or for which there is no room; those of at most free bytes need none.
func (en *Entrance) taking(free int, f func(service.Request)) func(service.Request) {
	return func(r service.Request) {
		size := len(r.Data())
		if bad := jobs.FitsIn(size, en.Largest); bad != nil {
			en.refuse(r, bad)
			return
		}
		if size <= free {
			f(r)
			return
		}
		place, retry := en.room.take(time.Now(), size)
		if retry > 0 {
			en.refuse(r, tooMuchHeld(retry))
			return
		}
		f(&held{r, place})
	}
}

func tooMuchHeld(retry time.Duration) *jobs.Error {
	e := jobs.Errorf(jobs.Resource, jobs.CodeOverloaded, "too many requests at once: the dispatcher has reached its limit (%d, or %d MiB)", mostRequests, mostBytes>>20).
		WithHint("retry after retry_after_ms; pass large inputs by reference").Again()
	e.RetryAfter = retry
	return e
}

// held is a request that counts until it has its answer or is stored.
type held struct {
	service.Request
	place *place
}

// Stored reports that a request is not held any more: a stream has taken it. Requests that wrap others report which (Unwrap).
func Stored(r service.Request) {
	for {
		switch v := r.(type) {
		case *held:
			v.place.leave()
			return
		case interface{ Unwrap() service.Request }:
			r = v.Unwrap()
		default:
			return
		}
	}
}

// Respond is the end of a request.
func (h *held) Respond(body []byte, headers service.Headers) error {
	defer h.place.leave()
	return h.Request.Respond(body, headers)
}

// Refuse is the end of a request, too.
func (h *held) Refuse(number int, text string, body []byte, headers service.Headers) error {
	defer h.place.leave()
	return h.Request.Refuse(number, text, body, headers)
}
