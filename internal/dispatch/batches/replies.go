package batches

import (
	"strconv"

	"github.com/dspex/dspex/internal/batch"
	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/wire"
)

// listen has hosts send the replies of the batch's jobs here (ADR 84), until stop is called. Without them outcomes are found a little later.
func (r *runner) listen() (stop func()) {
	inbox, here := r.inboxes(stream.NewID())
	stop, err := r.s.Receive(here+"*", func(subject string, data []byte) { r.answered(subject[len(here):], data) })
	if err != nil {
		r.s.Log.Warn("batch_replies_not_received", "batch", r.id, "error", err)
		return func() {}
	}
	r.inbox = inbox
	return stop
}

// inboxes are the prefixes of the replies' subjects: as the jobs have it, and where hosts send them. Where tenants have accounts, replies to
// their jobs go to subjects that the service exports to them.
func (r *runner) inboxes(id string) (named, here string) {
	if r.tenant == jobs.DefaultTenant || !r.s.Accounts() {
		own := r.s.Inbox() + "."
		return own, own
	}
	rest := "batch." + id + "."
	return contract.SubjectReply + rest, contract.SubjectReply + r.tenant + "." + rest
}

// answered takes a job's reply, unless more have come than are looked at. Other messages count for nothing: a part of the output (a job may
// have the option stream), and the empty one behind a reply.
func (r *runner) answered(number string, data []byte) {
	index, err := strconv.Atoi(number)
	if err != nil {
		return
	}
	attempts, mine, succeeded := success(data, batch.JobID(r.key, index))
	if !mine {
		return
	}
	h := happening{event: batch.Replied{Index: index}}
	if succeeded {
		o := batch.Outcome{Index: index, Kind: jobs.Succeeded, Attempts: attempts, Reply: data}
		e := end(o)
		h = happening{event: batch.Replied{Index: index, Ended: &e}, found: []batch.Outcome{o}}
	}
	select {
	case r.answers <- h:
	default:
	}
}

// success reports whether a message is a reply of a job, and whether that has succeeded: such a reply is sent when the outcome is decided.
// Others may be none of an outcome, but the word that it is pending.
func success(reply []byte, job string) (attempts int, mine, yes bool) {
	if wire.Check(reply, wire.Pass) != nil {
		return 0, false, false
	}
	in := wire.NewReader(reply)
	fields, err := in.Map()
	for ; fields > 0 && err == nil; fields-- {
		var key string
		if key, err = in.Str(); err != nil {
			break
		}
		switch kind := in.Kind(); {
		case key == "ok" && kind == wire.Bool:
			yes, err = in.Bool()
		case key == "job" && kind == wire.Str:
			var of string
			of, err = in.Str()
			mine = of == job
		case key == "attempt" && kind == wire.Int:
			var n int64
			n, err = in.Int()
			attempts = int(n)
		default:
			err = in.Skip()
		}
	}
	mine = mine && err == nil
	return attempts, mine, mine && yes
}
