package batches

import (
	"strconv"

	"github.com/dspex/dspex/internal/batch"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// listen has hosts send the replies of the batch's jobs here (ADR 84), until stop is called. Without them outcomes are found a little later.
// Where tenants have accounts, replies go to those.
func (r *runner) listen() (stop func()) {
	if r.tenant != jobs.DefaultTenant && r.s.Accounts() {
		return func() {}
	}
	inbox := r.s.Inbox() + "."
	stop, err := r.s.Receive(inbox+"*", func(subject string, data []byte) { r.answered(subject[len(inbox):], data) })
	if err != nil {
		r.s.Log.Warn("batch_replies_not_received", "batch", r.id, "error", err)
		return func() {}
	}
	r.inbox = inbox
	return stop
}

// answered takes a reply, unless more have come than are looked at.
func (r *runner) answered(number string, data []byte) {
	index, err := strconv.Atoi(number)
	if err != nil {
		return
	}
	h := happening{event: batch.Replied{Index: index}}
	if attempts, succeeded := success(data, batch.JobID(r.key, index)); succeeded {
		o := batch.Outcome{Index: index, Kind: jobs.Succeeded, Attempts: attempts, Reply: data}
		e := end(o)
		h = happening{event: batch.Replied{Index: index, Ended: &e}, found: []batch.Outcome{o}}
	}
	select {
	case r.answers <- h:
	default:
	}
}

// success reports whether a message is the reply of a job that has succeeded: that is sent when its outcome is decided. Others may be none of
// an outcome: the word that it is pending, a part of the output.
func success(reply []byte, job string) (attempts int, yes bool) {
	if wire.Check(reply, wire.Pass) != nil {
		return 0, false
	}
	in := wire.NewReader(reply)
	fields, err := in.Map()
	mine := false
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
	return attempts, err == nil && yes && mine
}
