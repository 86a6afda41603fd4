package dashboard

import (
	"cmp"
	"container/list"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex"
)

// Bounds of what is kept of the attempts.
const (
	mostJobs     = 1000 // latest
	mostFailed   = 300  // latest that have a failed attempt
	mostAttempts = 24   // of one job
	mostSessions = 2000 // latest
	mostWorkers  = 1024
	mostRunning  = 4096
	mostSpared   = 8    // jobs that run, when one is to be forgotten
	mostValues   = 4096 // durations of one second
)

// attempt is one run of a job, or a failed wait for one.
type attempt struct {
	Number   int
	Host     string
	Worker   string
	At       time.Time // of its end, or of its start while it runs
	Waited   float64   // ms, for a slot
	Ran      float64   // ms
	Category string    // of its failure, "" if there was none
	Code     string
	Running  bool
}

// Failed reports whether it failed.
func (a attempt) Failed() bool { return a.Category != "" }

// track is what was seen of a job.
type track struct {
	Tenant, Session, Job, Command string
	Attempts                      []attempt
	At                            time.Time

	place  *list.Element // among the latest
	failed *list.Element // among those that failed
}

// State is that of its last attempt.
func (t track) State() string {
	switch last := t.Attempts[len(t.Attempts)-1]; {
	case last.Running:
		return "running"
	case last.Failed():
		return "failed"
	}
	return "succeeded"
}

// Failure is the error of its last failed attempt, and how many failed.
func (t track) Failure() string {
	text, n := "", 0
	for _, a := range t.Attempts {
		if a.Failed() {
			text, n = a.Category+" "+a.Code, n+1
		}
	}
	if n > 1 {
		text += fmt.Sprintf(", %d times", n)
	}
	return text
}

// Last is the last attempt.
func (t track) Last() attempt { return t.Attempts[len(t.Attempts)-1] }

// sessionTrack is what was seen of a session.
type sessionTrack struct {
	Tenant, ID, Host, Worker, Job string
	Moves, Jobs                   int
	At                            time.Time
	Running                       bool
}

// workerTrack is what was seen of a worker.
type workerTrack struct {
	Host, Worker     string
	Attempts, Errors int
	At               time.Time
	Running          map[jobKey]time.Time
}

type jobKey struct{ tenant, session, job string }

// second is what the attempts of one second were.
type second struct {
	Jobs, Errors int
	Ran, Waited  []float64
	Lost         int
}

// tail follows the attempts of all jobs, or of one tenant's, and keeps the latest.
type tail struct {
	tenant string // "": of all

	mu       sync.Mutex
	follows  bool
	settled  time.Time // from then on each start that is seen has its end seen, too
	second   second
	lost     int
	jobs     map[jobKey]*track
	latest   *list.List // of *track, the newest first
	failed   *list.List
	sessions map[jobKey]*list.Element // of *sessionTrack; without a job
	recent   *list.List
	workers  map[string]*workerTrack
	running  int
	looked   map[jobKey]time.Time // of those that run: the second look
}

// attemptEvent is an event of an attempt: contract/events.md, "Telemetry".
type attemptEvent struct {
	Event    string    `json:"event"`
	At       time.Time `json:"at"`
	Host     string    `json:"host"`
	Tenant   string    `json:"tenant"`
	Session  string    `json:"session"`
	Job      string    `json:"job"`
	Command  string    `json:"command"`
	Attempt  int       `json:"attempt"`
	Worker   string    `json:"worker"`
	Duration float64   `json:"duration"`
	Category string    `json:"error_category"`
	Code     string    `json:"code"`
}

// settleTime is how long a start that is seen may have an end that is not: a host sends each kind of event within a second after it has a
// listener, and not all kinds at once.
const settleTime = 1500 * time.Millisecond

// follow reads events until ctx ends.
func (t *tail) follow(ctx context.Context, c *dspex.Client) {
	t.mu.Lock()
	t.reset()
	t.follows, t.settled = true, time.Now().Add(settleTime)
	t.mu.Unlock()
	for e, err := range c.Admin().Events(ctx, dspex.EventFilter{Attempts: true}) {
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			t.mu.Lock()
			t.settled = time.Now().Add(settleTime)
			t.mu.Unlock()
			continue
		}
		if e.Lost > 0 {
			t.mu.Lock()
			t.second.Lost += e.Lost
			t.lost += e.Lost
			t.mu.Unlock()
		}
		if !strings.HasPrefix(e.Name, "dspex.session_pool.") {
			continue
		}
		var a attemptEvent
		if json.Unmarshal(e.Raw, &a) == nil && (t.tenant == "" || a.Tenant == t.tenant) {
			t.add(a)
		}
	}
}

func (t *tail) reset() {
	t.jobs, t.latest, t.failed = map[jobKey]*track{}, list.New(), list.New()
	t.sessions, t.recent = map[jobKey]*list.Element{}, list.New()
	t.workers, t.looked = map[string]*workerTrack{}, map[jobKey]time.Time{}
}

// add takes an event in.
func (t *tail) add(e attemptEvent) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := jobKey{e.Tenant, e.Session, e.Job}
	kind := strings.TrimPrefix(e.Event, "dspex.session_pool.")
	if kind == "checkout" && time.Now().Before(t.settled) {
		t.second.Waited = bounded(t.second.Waited, e.Duration)
		return // it is known when it ends
	}
	j := t.jobOf(key, e)
	a := j.attempt(e)
	switch kind {
	case "checkout":
		a.Waited, a.Running = e.Duration, true
		t.second.Waited = bounded(t.second.Waited, e.Duration)
	case "execute":
		a.Ran, a.Running = e.Duration, false
		t.second.Jobs++
		t.second.Ran = bounded(t.second.Ran, e.Duration)
	case "error":
		a.Running, a.Category, a.Code = false, e.Category, e.Code
		if a.Worker != "" {
			a.Ran = max(a.Ran, e.Duration)
		} else {
			a.Waited = max(a.Waited, e.Duration)
		}
		t.second.Errors++
		t.fail(j)
	}
	a.At, a.Host, a.Worker = e.At, cmp.Or(e.Host, a.Host), cmp.Or(e.Worker, a.Worker)
	j.At = e.At
	t.worker(e, key, kind)
	if e.Session != "" {
		t.session(e, a.Running)
	}
}

func bounded(values []float64, v float64) []float64 {
	if len(values) >= mostValues {
		return values
	}
	return append(values, v)
}

// jobOf returns what is known of a job, as the newest.
func (t *tail) jobOf(key jobKey, e attemptEvent) *track {
	j := t.jobs[key]
	if j == nil {
		j = &track{Tenant: e.Tenant, Session: e.Session, Job: e.Job, Command: e.Command}
		t.jobs[key] = j
	}
	if j.place == nil {
		j.place = t.latest.PushFront(j)
	}
	for spared := 0; t.latest.Len() > mostJobs; {
		if back := t.latest.Back(); spared < mostSpared && back.Value.(*track).State() == "running" { // it is not over, though it is old
			t.latest.MoveToFront(back)
			spared++
			continue
		}
		old := t.latest.Remove(t.latest.Back()).(*track)
		old.place = nil
		t.forget(old)
	}
	return j
}

// fail keeps a job among those that failed.
func (t *tail) fail(j *track) {
	if j.failed != nil {
		t.failed.MoveToFront(j.failed)
		return
	}
	j.failed = t.failed.PushFront(j)
	for t.failed.Len() > mostFailed {
		old := t.failed.Remove(t.failed.Back()).(*track)
		old.failed = nil
		t.forget(old)
	}
}

func (t *tail) forget(j *track) {
	if j.place == nil && j.failed == nil {
		delete(t.jobs, jobKey{j.Tenant, j.Session, j.Job})
	}
}

// attempt returns the attempt of an event.
func (t *track) attempt(e attemptEvent) *attempt {
	i := slices.IndexFunc(t.Attempts, func(a attempt) bool { return a.Number == e.Attempt })
	if i < 0 {
		if len(t.Attempts) >= mostAttempts {
			t.Attempts = slices.Delete(t.Attempts, 0, 1)
		}
		t.Attempts = append(t.Attempts, attempt{Number: e.Attempt})
		i = len(t.Attempts) - 1
	}
	return &t.Attempts[i]
}

// worker keeps what a worker does.
func (t *tail) worker(e attemptEvent, key jobKey, kind string) {
	if e.Worker == "" {
		return
	}
	w := t.workers[e.Worker]
	if w == nil {
		if len(t.workers) >= mostWorkers {
			return
		}
		w = &workerTrack{Host: e.Host, Worker: e.Worker, Running: map[jobKey]time.Time{}}
		t.workers[e.Worker] = w
	}
	w.At, w.Host = e.At, e.Host
	switch kind {
	case "checkout":
		if t.running < mostRunning {
			w.Running[key] = e.At
			t.running++
		}
		return
	case "error":
		w.Errors++
	case "execute":
		w.Attempts++
	}
	if _, ok := w.Running[key]; ok {
		delete(w.Running, key)
		delete(t.looked, key)
		t.running--
	}
}

// session keeps where a session is.
func (t *tail) session(e attemptEvent, running bool) {
	key := jobKey{e.Tenant, e.Session, ""}
	place := t.sessions[key]
	if place == nil {
		place = t.recent.PushFront(&sessionTrack{Tenant: e.Tenant, ID: e.Session})
		t.sessions[key] = place
		for t.recent.Len() > mostSessions {
			old := t.recent.Remove(t.recent.Back()).(*sessionTrack)
			delete(t.sessions, jobKey{old.Tenant, old.ID, ""})
		}
	}
	t.recent.MoveToFront(place)
	s := place.Value.(*sessionTrack)
	if e.Worker != "" {
		if s.Worker != "" && (s.Worker != e.Worker || s.Host != e.Host) {
			s.Moves++
		}
		s.Host, s.Worker = e.Host, e.Worker
	}
	if e.Job != s.Job {
		s.Jobs++
	}
	s.Job, s.At, s.Running = e.Job, e.At, running
}

// take returns what the attempts were since the last call.
func (t *tail) take() second {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.second
	t.second = second{}
	return s
}
