package sim

import (
	"fmt"
	"hash/fnv"
	"time"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// paired reports whether a job is submitted together with another one: some of those that its client publishes in a session, once.
func (o op) paired() bool {
	if o.endpoint != endpointPublish || o.job == "" || o.session == "" || o.command != "append" || o.uploads || o.repeat || o.reply || o.due > 0 {
		return false
	}
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(o.job))
	return sum.Sum32()%3 == 0
}

// pair is the other one: the same job in a session that has only such.
func (o op) pair() op {
	o.session, o.cancel = o.session+"_pair", 0
	return o
}

func (o op) entry() map[string]any {
	return map[string]any{"job": o.job, "session": o.session, "command": o.command, "args": o.args(), "options": o.options}
}

// submitPair makes two jobs durable, both or none, and awaits both outcomes.
func (c *client) submitPair(o op) {
	other := o.pair()
	body := o.encode(map[string]any{"jobs": []any{o.entry(), other.entry()}})
	e := c.event(together, o)
	e.text = other.ref().name()
	c.p.world.history.add(e)
	for pause := again; ; pause = min(2*pause, time.Minute) {
		c.p.world.history.add(c.event(submit, o))
		c.p.world.history.add(c.event(submit, other))
		why := c.trySubmit(o, body)
		for _, one := range []op{o, other} {
			e := c.event(accepted, one)
			if why != "" {
				e.kind, e.text = unclear, why
			}
			c.p.world.history.add(e)
		}
		if why == "" {
			break
		}
		if !c.sleep(pause) {
			return
		}
	}
	c.wg.Go(func() { c.fetch(other) })
	c.fetch(o)
}

// trySubmit returns why the jobs may not be stored; "": they are.
func (c *client) trySubmit(o op, body []byte) string {
	m := o.message(o.request(contract.RPCJobsSubmit))
	m.Data = body
	m.Header.Del(jobs.HeaderJob)
	answer, err := c.p.nc.RequestMsg(m, replyWait)
	if err != nil {
		return err.Error()
	}
	data := answer.Data
	if answer.Header.Get(jobs.HeaderContentType) != jobs.MsgPack {
		data, err = wire.FromJSON(answer.Data, wire.Pass)
	}
	var r struct {
		OK    bool `msgpack:"ok"`
		Error struct {
			Code string `msgpack:"code"`
		} `msgpack:"error"`
	}
	if err == nil {
		err = wire.Decode(data, &r)
	}
	if err == nil && !r.OK {
		err = fmt.Errorf("refused: %s", r.Error.Code)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// pairsAreWhole: of jobs that were submitted together both are stored, or none. The first one may also have been sent again by itself.
func (c *checker) pairsAreWhole() {
	sent := map[string]int{}
	c.h.each(func(e event) { sent[key(e)]++ }, submit)
	c.h.each(func(e event) {
		other := event{session: e.text, job: e.job}
		_, one := c.messageOf(e)
		_, two := c.messageOf(other)
		if two && !one || one && !two && sent[key(e)] == sent[key(other)] {
			c.fail("of %s and %s, which were submitted together, one is stored", key(e), key(other))
		}
	}, together)
}
