//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/jobs"
)

// What is required of a deployment that gets more than it can do. Jobs wait 100 ms in their slots, so that its capacity is the
// number of slots and the machine is far from busy.
const (
	overloadWorkers = 8
	overloadSlots   = 2
	overloadRun     = 100 * time.Millisecond
	overloadBound   = 3 * time.Second // of each caller
	overloadLasts   = 8 * time.Second
	capacity        = overloadWorkers * overloadSlots * float64(time.Second) / float64(overloadRun) // calls a second

	goodLeast     = 0.95 // calls completed within their bound, against those at the capacity's rate
	refusedMost   = 100.0
	readmitLeast  = 0.90
	besideMost    = 2.0
	backlogOf     = 3000 // sessions
	backlogJobs   = 20   // of each
	probes        = 40
	recoveryLeast = 0.9 // of the full rate in the second after the flood
)

var overloadBody = []byte(`{"command": "sleep", "args": {"ms": ` + strconv.FormatInt(overloadRun.Milliseconds(), 10) + `}, "options": {"deadline": "` + overloadBound.String() + `"}}`)

// crowd sends calls at a rate, whatever becomes of them, and notes what does.
type crowd struct {
	nc     *nats.Conn
	prefix string
	anon   bool

	mu       sync.Mutex
	sent     map[int]*sentCall
	next     int
	good     []time.Time // when calls completed within their bound
	late     int         // calls that completed beyond it
	failed   map[string]int
	refusals []float64 // ms until a refusal
	admitted int       // calls that came back at the time in their refusal, and were taken
	returned int
	timers   sync.WaitGroup
}

type sentCall struct {
	at      time.Time
	session string
	again   bool
}

func newCrowd(nc *nats.Conn, anon bool) (*crowd, error) {
	c := &crowd{nc: nc, prefix: nats.NewInbox() + ".", anon: anon, sent: map[int]*sentCall{}, failed: map[string]int{}}
	sub, err := nc.Subscribe(c.prefix+"*", c.answered)
	if err == nil {
		err = sub.SetPendingLimits(-1, -1)
	}
	return c, err
}

func (c *crowd) send(session string, again bool) {
	c.mu.Lock()
	c.next++
	n := c.next
	c.sent[n] = &sentCall{at: time.Now(), session: session, again: again}
	c.mu.Unlock()
	m := &nats.Msg{Subject: jobs.RPCSession + session, Reply: c.prefix + strconv.Itoa(n), Data: overloadBody, Header: nats.Header{}}
	if c.anon {
		m.Subject = jobs.RPCAnonymous
		m.Header.Set(jobs.HeaderJob, session)
	}
	_ = c.nc.PublishMsg(m)
}

func (c *crowd) answered(m *nats.Msg) {
	n, _ := strconv.Atoi(m.Subject[len(c.prefix):])
	var reply struct {
		OK    bool `json:"ok"`
		Error struct {
			Code       string `json:"code"`
			RetryAfter int64  `json:"retry_after_ms"`
		} `json:"error"`
	}
	_ = json.Unmarshal(m.Data, &reply)
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sent[n]
	if s == nil {
		return
	}
	delete(c.sent, n)
	took := now.Sub(s.at)
	refused := !reply.OK && reply.Error.RetryAfter > 0
	if s.again {
		c.returned++
		if !refused {
			c.admitted++
		}
	}
	switch {
	case reply.OK && took <= overloadBound:
		c.good = append(c.good, now)
	case reply.OK:
		c.late++
	case refused && !s.again:
		c.refusals = append(c.refusals, float64(took.Microseconds())/1000)
		if wait := time.Duration(reply.Error.RetryAfter) * time.Millisecond; wait <= overloadBound {
			c.timers.Add(1)
			time.AfterFunc(wait, func() { defer c.timers.Done(); c.send(s.session, true) })
		}
	default:
		c.failed[reply.Error.Code]++
	}
}

// run sends rate calls a second for a while and waits for the answers.
func (c *crowd) run(ctx context.Context, rate float64, lasts time.Duration, name string) (began time.Time) {
	began = time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; {
		spent := time.Since(began)
		if spent >= lasts {
			break
		}
		for ; float64(n) < rate*spent.Seconds(); n++ {
			c.send(fmt.Sprintf("%s_%d", name, n), false)
		}
		<-tick.C
	}
	c.timers.Wait()
	for end := time.Now().Add(overloadBound + 5*time.Second); time.Now().Before(end); <-tick.C {
		c.mu.Lock()
		left := len(c.sent)
		c.mu.Unlock()
		if left == 0 {
			break
		}
	}
	return began
}

// rate is the calls a second that completed in time, in the second half of the run.
func (c *crowd) rate(began time.Time, lasts time.Duration) float64 {
	n := 0
	for _, at := range c.good {
		if since := at.Sub(began); since >= lasts/2 && since < lasts {
			n++
		}
	}
	return float64(n) / (lasts / 2).Seconds()
}

// measureOverload floods a deployment with calls and jobs.
func measureOverload(ctx context.Context, o *options, r *report) error {
	r.head("overload: capacity by slots, jobs of 100 ms, callers wait 3 s", "load", "in time /s", "late", "refused", "refused p99 ms", "came back", "admitted", "unanswered", "other failures")
	for _, anon := range []bool{false, true} {
		kind := "sessions"
		if anon {
			kind = "anonymous"
		}
		var full float64
		for _, times := range []float64{1, 3, 10} {
			name := fmt.Sprintf("%s, %gx", kind, times)
			c, rate, err := flood(ctx, o, anon, times)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			p99 := quantileOr(c.refusals, 0.99, 0)
			r.line(name, number(rate), strconv.Itoa(c.late), strconv.Itoa(len(c.refusals)), number(p99), strconv.Itoa(c.returned), strconv.Itoa(c.admitted),
				strconv.Itoa(len(c.sent)), fmt.Sprint(c.failed))
			if times == 1 {
				full = rate
				continue
			}
			r.judge("overload", name+": in time, against 1x", "", ">=", goodLeast, []float64{rate / full})
			r.judge("overload", name+": refused, p99", "ms", "<=", refusedMost, []float64{p99})
			r.judge("overload", name+": late", "calls", "<=", 0, []float64{float64(c.late)})
			if c.returned > 0 {
				r.judge("overload", name+": admitted of those that came back", "", ">=", readmitLeast, []float64{float64(c.admitted) / float64(c.returned)})
			}
		}
	}
	r.tail()
	return measureBeside(ctx, o, r)
}

func flood(ctx context.Context, o *options, anon bool, times float64) (*crowd, float64, error) {
	g, nc, err := overloadRig(ctx, o)
	if err != nil {
		return nil, 0, err
	}
	defer g.stop()
	defer nc.Close()
	warm, err := newCrowd(nc, anon)
	if err != nil {
		return nil, 0, err
	}
	warm.run(ctx, capacity/2, 2*time.Second, "warm")
	c, err := newCrowd(nc, anon)
	if err != nil {
		return nil, 0, err
	}
	began := c.run(ctx, times*capacity, overloadLasts, "crowd")
	c.mu.Lock()
	defer c.mu.Unlock()
	return c, c.rate(began, overloadLasts), nil
}

func overloadRig(ctx context.Context, o *options) (*rig, *nats.Conn, error) {
	return stubRig(ctx, o, overloadWorkers, overloadSlots, "--overflow", "0")
}

// measureBeside times the calls of sessions that were idle: alone, beside a flood, beside a backlog of published jobs.
func measureBeside(ctx context.Context, o *options, r *report) error {
	g, nc, err := overloadRig(ctx, o)
	if err != nil {
		return err
	}
	defer g.stop()
	defer nc.Close()
	r.head("overload: a call of an idle session (100 ms in its slot), ms", "beside", "calls", "p50", "p99", "failed", "asked of p50, against alone", "", "", "")
	alone, failed := probe(ctx, nc, "alone")
	r.line("nothing", strconv.Itoa(len(alone)), number(median(alone)), number(quantile(alone, 0.99)), strconv.Itoa(failed))
	besides := []struct {
		name  string
		begin func(context.Context) error
	}{
		{"a flood at 10x of 200 sessions", func(ctx context.Context) error { return floodFew(ctx, nc) }},
		{fmt.Sprintf("%d published jobs of %d sessions", backlogOf*backlogJobs, backlogOf), func(context.Context) error { return backlog(nc) }},
	}
	for _, b := range besides {
		during, stop := context.WithCancel(ctx)
		if err := b.begin(during); err != nil {
			stop()
			return err
		}
		<-time.After(time.Second)
		took, failed := probe(ctx, nc, "beside")
		stop()
		ratio := quantileOr(took, 0.5, 1e6) / median(alone)
		r.line(append([]string{b.name, strconv.Itoa(len(took)), number(quantileOr(took, 0.5, 0)), number(quantileOr(took, 0.99, 0)), strconv.Itoa(failed)},
			r.judge("overload", "idle session's call beside "+b.name, "", "<=", besideMost, []float64{ratio})...)...)
	}
	r.tail()
	return nil
}

// probe calls idle sessions, one after the other.
func probe(ctx context.Context, nc *nats.Conn, name string) (took []float64, failed int) {
	for n := range probes {
		bounded, cancel := context.WithTimeout(ctx, overloadBound)
		at := time.Now()
		m, err := nc.RequestWithContext(bounded, jobs.RPCSession+fmt.Sprintf("probe_%s_%d_%d", name, n, at.UnixNano()), overloadBody)
		cancel()
		if err != nil || failure(m) != nil {
			failed++
			continue
		}
		took = append(took, float64(time.Since(at).Microseconds())/1000)
	}
	return took, failed
}

// floodFew keeps 200 sessions calling at ten times the capacity until ctx ends.
func floodFew(ctx context.Context, nc *nats.Conn) error {
	inbox := nats.NewInbox()
	sub, err := nc.Subscribe(inbox+".*", func(*nats.Msg) {})
	if err != nil {
		return err
	}
	go func() {
		defer func() { _ = sub.Unsubscribe() }()
		began := time.Now()
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ctx.Err() == nil; <-tick.C {
			for ; float64(n) < 10*capacity*time.Since(began).Seconds(); n++ {
				_ = nc.PublishRequest(jobs.RPCSession+fmt.Sprintf("flood_%d", n%200), inbox+"."+strconv.Itoa(n), overloadBody)
			}
		}
	}()
	return nil
}

func backlog(nc *nats.Conn) error {
	body := []byte(`{"command": "sleep", "args": {"ms": 100}}`)
	for n := range backlogOf * backlogJobs {
		if err := nc.Publish(fmt.Sprintf("dspex.session.backlog_%d", n%backlogOf), body); err != nil {
			return err
		}
	}
	return nc.Flush()
}

func quantileOr(v []float64, q, otherwise float64) float64 {
	if len(v) == 0 {
		return otherwise
	}
	return quantile(slices.Clone(v), q)
}
