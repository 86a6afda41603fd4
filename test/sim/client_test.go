package sim

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// client plays one list of ops over its own cable.
type client struct {
	p    *process
	js   jetstream.JetStream
	ops  []op
	wg   sync.WaitGroup // outcomes that are awaited aside
	done chan struct{}

	mu      sync.Mutex
	waiting map[int]string // op -> what it waits for
}

func (w *world) startClients() []*client {
	var list []*client
	for n, ops := range w.plan.clients {
		list = append(list, w.startClient(fmt.Sprintf("c%d.1", n), ops))
	}
	return list
}

func (w *world) startClient(who string, ops []op) *client {
	c := &client{p: w.process(who), ops: ops, done: make(chan struct{}), waiting: map[int]string{}}
	c.p.client = true
	w.wg.Go(func() {
		defer close(c.done)
		c.run()
	})
	return c
}

func (c *client) run() {
	if err := c.p.connect(); err != nil {
		c.p.world.broken = err
		return
	}
	defer c.p.nc.Close()
	c.js, _ = jetstream.New(c.p.nc) // fails for no options only
	for n, o := range c.ops {
		if !c.sleep(o.think) {
			break
		}
		if o.awaits {
			c.do(n, o)
		} else {
			c.wg.Go(func() { c.do(n, o) })
			c.sleep(20 * time.Millisecond) // its publish goes first, as a rule
		}
	}
	c.wg.Wait()
}

// sleep reports whether the client may go on.
func (c *client) sleep(d time.Duration) bool {
	select {
	case <-c.p.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (c *client) note(n int, what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if what == "" {
		delete(c.waiting, n)
	} else {
		c.waiting[n] = what
	}
}

func (c *client) do(n int, o op) {
	c.note(n, fmt.Sprintf("op %d: %s/%s", n, o.ref().name(), o.job))
	defer c.note(n, "")
	if o.cancel > 0 {
		was := o // upload changes it
		c.wg.Go(func() { c.cancel(was) })
	}
	if o.uploads {
		if o.object = c.upload(o); o.object == nil {
			return
		}
	}
	if o.endpoint == endpointCall {
		c.call(o)
		return
	}
	if o.paired() {
		c.submitPair(o)
		return
	}
	c.publish(o)
}

func (o op) body() []byte {
	v := map[string]any{"command": o.command, "args": o.args(), "options": o.options}
	if o.object != nil {
		v["args"], v["args_object"] = map[string]any{}, o.object
	}
	return o.encode(v)
}

func (o op) args() map[string]any {
	return map[string]any{"x": o.work.X, "ms": o.work.MS, "fail": o.work.Fail, "die": o.work.Die, "bad": o.work.Bad, "down": o.work.Down, "pad": o.work.Pad}
}

func (o op) encode(v map[string]any) []byte {
	if o.msgpack {
		b, err := wire.Encode(v)
		if err != nil {
			panic(err) // a map of numbers and text always encodes
		}
		return b
	}
	b, _ := json.Marshal(v)
	return b
}

func (o op) message(subject string) *nats.Msg {
	m := nats.NewMsg(subject)
	m.Data = o.body()
	if o.msgpack {
		m.Header.Set(jobs.HeaderContentType, jobs.MsgPack)
	}
	if o.job != "" {
		m.Header.Set(jobs.HeaderJob, o.job)
	}
	if o.due > 0 {
		m.Header.Set(jobs.HeaderDeadline, fmt.Sprint(o.due.Milliseconds()))
	}
	return m
}

func (c *client) event(k kind, o op) event {
	return event{kind: k, who: c.p.name, session: o.ref().name(), job: o.job}
}

// tenants of a plan that has some.
var tenants = []string{"acme", "globex"}

// ref names the session of an op, as the keys do.
func (o op) ref() ref {
	return ref{jobs.SessionRef{Tenant: cmp.Or(o.tenant, jobs.DefaultTenant), ID: o.session}}
}

// request is the subject of a request of the op's tenant.
func (o op) request(plain string) string {
	if o.tenant == "" {
		return plain
	}
	return "dspex.t." + o.tenant + strings.TrimPrefix(plain, "dspex")
}

// ref is a session in the history.
type ref struct{ jobs.SessionRef }

// name is empty for jobs without session, whoever's they are: their ids differ.
func (r ref) name() string {
	if r.ID == "" {
		return ""
	}
	return r.String()
}

// refOf reads a name.
func refOf(name string) jobs.SessionRef {
	if tenant, id, ok := strings.Cut(name, "/"); ok {
		return jobs.SessionRef{Tenant: tenant, ID: id}
	}
	return jobs.SessionRef{Tenant: jobs.DefaultTenant, ID: name}
}

// Waits of a client, and the first pause before it tries again; the next ones are longer, up to a minute.
const (
	ackWait   = 3 * time.Second
	replyWait = 8 * time.Second
	again     = 500 * time.Millisecond
)

// publish makes a job durable, sends it again until it is accepted (only with an id: without, it would be another job), and
// awaits the outcome.
func (c *client) publish(o op) {
	subject := o.ref().PublishSubject(o.lane)
	var inbox *nats.Subscription
	m := o.message(subject)
	if o.reply {
		to := c.p.nc.NewInbox()
		heard := to
		if o.tenant != "" { // what the service publishes there reaches the tenant's account under the name that it gave
			to = "dspex.reply." + to[len("_INBOX."):]
			heard = "dspex.reply." + o.tenant + to[len("dspex.reply"):]
		}
		sub, err := c.p.nc.SubscribeSync(heard)
		if err != nil {
			return // the connection is closed: the end
		}
		defer func() { _ = sub.Unsubscribe() }()
		inbox = sub
		m.Header.Set(jobs.HeaderReplyTo, to)
	}
	for pause := again; ; pause = min(2*pause, time.Minute) {
		c.p.world.history.add(c.event(submit, o))
		ctx, cancel := context.WithTimeout(c.p.ctx, ackWait)
		ack, err := c.js.PublishMsg(ctx, m)
		cancel()
		if err == nil {
			e := c.event(accepted, o)
			if e.seq = ack.Sequence; o.job == "" {
				o.job = jobs.SequenceJob(ack.Sequence)
				e.job = o.job
			}
			c.p.world.history.add(e)
			break
		}
		e := c.event(unclear, o)
		e.text = err.Error()
		c.p.world.history.add(e)
		if o.job == "" || !c.sleep(pause) {
			return
		}
	}
	if inbox != nil {
		if m, err := inbox.NextMsg(replyWait); err == nil {
			if c.seeReply(o, m) {
				return
			}
		}
	}
	c.fetch(o)
}

// call sends to the endpoint; a call without an id that gets no reply is given up, because nothing can be looked up.
func (c *client) call(o op) {
	subject := jobs.RPCAnonymous
	if o.session != "" {
		subject = jobs.RPCSession + o.session
	}
	if o.pushes() {
		subject = rpcAdmin
	}
	for pause := again; ; pause = min(2*pause, time.Minute) {
		c.p.world.history.add(c.event(submit, o))
		m, err := c.p.nc.RequestMsg(o.message(o.request(subject)), replyWait)
		if err == nil && c.seeReply(o, m) {
			return
		}
		e := c.event(unclear, o)
		if err != nil {
			e.text = err.Error()
		}
		c.p.world.history.add(e)
		if o.job == "" {
			e.kind = gaveUp
			c.p.world.history.add(e)
			return
		}
		if !c.sleep(pause) {
			return
		}
	}
}

// cancel requests the job's end once. Whatever becomes of it, the job has one outcome.
func (c *client) cancel(o op) {
	if !c.sleep(o.cancel) {
		return
	}
	c.p.world.history.add(c.event(cancels, o))
	if m, err := c.ask(jobs.RPCJobsCancel, o, 0, 20*time.Second); err == nil {
		c.seeLookup(o, m, cancels)
	}
}

// reply is a reply body as far as the checkers look at it.
type reply struct {
	OK      bool     `msgpack:"ok" json:"ok"`
	Job     string   `msgpack:"job" json:"job"`
	Attempt int      `msgpack:"attempt" json:"attempt"`
	Result  wire.Raw `msgpack:"result" json:"-"`
	Object  struct {
		ID string `msgpack:"object" json:"object"`
	} `msgpack:"result_object" json:"result_object"`
	Session struct {
		State string `msgpack:"state" json:"state"`
	} `msgpack:"session" json:"session"`
	Error struct {
		Code string `msgpack:"code" json:"code"`
	} `msgpack:"error" json:"error"`
}

// list is the session's list that a successful append returns; nil for anything else.
func (r reply) list() []string {
	var list []string
	var python struct { // that of the stub engine in Python
		List []string `msgpack:"list"`
	}
	switch {
	case !r.OK:
		return nil
	case wire.Decode(r.Result, &list) == nil:
		return list
	case wire.Decode(r.Result, &python) == nil:
		return python.List
	}
	return nil
}

// seeReply records a reply and reports whether it is the job's outcome: a refusal at the endpoint is none.
func (c *client) seeReply(o op, m *nats.Msg) bool {
	body, err := m.Data, error(nil)
	if m.Header.Get(jobs.HeaderContentType) != jobs.MsgPack {
		body, err = wire.FromJSON(m.Data, wire.Pass)
	}
	var r reply
	if err == nil {
		err = wire.Decode(body, &r)
	}
	e := c.event(answered, o)
	if err != nil {
		e.kind, e.text = stuck, fmt.Sprintf("unreadable reply: %v: %q", err, m.Data)
		c.p.world.history.add(e)
		return true
	}
	e.attempt, e.label, e.list, e.body, e.text, e.asked = r.Attempt, r.Session.State, r.list(), string(body), r.Error.Code, o.work.X
	if o.command == "withdraw_program" {
		e.asked = takenBack
	}
	if r.Error.Code == jobs.CodePending { // the deadline has passed, the outcome comes later
		e.kind = unclear
		c.p.world.history.add(e)
		return false
	}
	if m.Header.Get(jobs.HeaderJob) == "" {
		e.kind = refused
		c.p.world.history.add(e)
		return false
	}
	if e.job == "" {
		e.job = m.Header.Get(jobs.HeaderJob)
	}
	c.p.world.history.add(e)
	return true
}

// fetch queries jobs.get until there is an outcome.
func (c *client) fetch(o op) {
	wait := 5000
	if o.polls {
		wait = 0
	}
	for pause := again; ; pause = min(2*pause, time.Minute) {
		m, err := c.ask(jobs.RPCJobsGet, o, wait, replyWait)
		if err == nil {
			pause = again
			if c.seeLookup(o, m, lookedUp) {
				return
			}
		}
		if errors.Is(err, nats.ErrConnectionClosed) || !c.sleep(pause) {
			return
		}
	}
}

// ask sends a request about a job; wait 0 stands for none.
func (c *client) ask(subject string, o op, wait int, within time.Duration) (*nats.Msg, error) {
	ask := map[string]any{"job": o.job}
	if o.session != "" {
		ask["session"] = o.session
	}
	if wait > 0 {
		ask["wait_ms"] = wait
	}
	b, err := wire.Encode(ask)
	if err != nil {
		panic(err) // text and numbers always encode
	}
	m := nats.NewMsg(o.request(subject))
	m.Data = b
	m.Header.Set(jobs.HeaderContentType, jobs.MsgPack)
	return c.p.nc.RequestMsg(m, within)
}

// seeLookup reports whether jobs.get returned the outcome.
func (c *client) seeLookup(o op, m *nats.Msg, otherwise kind) bool {
	var v struct {
		Result struct {
			Outcome string   `msgpack:"outcome"`
			Reply   wire.Raw `msgpack:"reply"`
		} `msgpack:"result"`
		Error struct {
			Code string `msgpack:"code"`
		} `msgpack:"error"`
	}
	e := c.event(otherwise, o)
	if err := wire.Decode(m.Data, &v); err != nil {
		e.text = err.Error()
	} else if v.Result.Reply != nil {
		var r reply
		if err := wire.Decode(v.Result.Reply, &r); err == nil {
			e.kind = answered
			e.attempt, e.label, e.list, e.body, e.text = r.Attempt, r.Session.State, r.list(), string(v.Result.Reply), r.Error.Code
		}
	} else {
		e.text = v.Result.Outcome + v.Error.Code
	}
	c.p.world.history.add(e)
	return e.kind == answered || v.Error.Code == jobs.CodeJobUnknown && c.p.world.history.struck(jobsLost, anonymousLost, resultsLost) // not waited for
}
