package telemetry

import (
	"encoding/json"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
)

// events publishes the telemetry events (contract/events.md, "Telemetry"). They are at most once and kept nowhere, and nearly
// free while nobody subscribes: the broker reports of each that nobody did, and then that kind is not sent for a second.
type events struct {
	out   *stream.Announcer
	host  string
	began time.Time
	muted [len(eventKinds)]atomic.Int64
}

// Indices in eventKinds, and in muted: ns after began until which nobody listens.
const (
	ofCheckout = iota
	ofExecute
	ofError
)

var eventKinds = [...]string{"checkout", "execute", "error"}

// deafness is how long a listener that comes may have to wait for the first event.
const muteTime = time.Second

// newEvents subscribes to the broker's reports, until stop is called.
func newEvents(on *stream.Access, host string) (t *events, stop func(), err error) {
	t = &events{host: host, began: time.Now()}
	t.out, stop, err = on.Announce(jobs.SubjectTelemetry, t.noListener)
	return t, stop, err
}

func (t *events) noListener(kind string) {
	if i := slices.Index(eventKinds[:], kind); i >= 0 {
		t.muted[i].Store(int64(time.Since(t.began) + muteTime))
	}
}

// event is the body of an event; durations are in milliseconds.
type event struct {
	Event    string        `json:"event"`
	At       time.Time     `json:"at"`
	Host     string        `json:"host"`
	Tenant   string        `json:"tenant"`
	Session  string        `json:"session,omitempty"` // none: an anonymous job
	Job      string        `json:"job"`
	Command  string        `json:"command"`
	Attempt  int           `json:"attempt"` // of a checkout the one that is to start
	Worker   string        `json:"worker,omitempty"`
	Duration float64       `json:"duration"`
	Category jobs.Category `json:"error_category,omitempty"`
	Code     string        `json:"code,omitempty"`
}

func (t *events) emit(kind int, of *lifecycle.Task, worker string, d time.Duration, e *jobs.Error) {
	if int64(time.Since(t.began)) < t.muted[kind].Load() {
		return
	}
	if t.out.Forbidden() {
		t.muted[kind].Store(math.MaxInt64) // rights of an earlier release: the log has the broker's word, once
		return
	}
	v := event{Event: control.EventSessionPool + eventKinds[kind], At: time.Now().UTC(), Host: t.host, Tenant: of.Session.Tenant, Session: of.Session.ID, Job: of.Env.Job, Command: of.Req.Command,
		Attempt: of.Attempt, Worker: worker}
	if kind == ofCheckout {
		v.Attempt++
	}
	v.Duration = float64(d.Microseconds()) / 1000
	if e != nil {
		v.Category, v.Code = e.Category, e.Code
	}
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // texts and numbers always marshal
	}
	t.out.Publish(eventKinds[kind], body)
}
