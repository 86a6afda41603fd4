package driver

import (
	"context"
	"sync/atomic"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
)

// payloadBudget bounds the bytes of waiting payloads that a host keeps; beyond it they are read again when they start.
const payloadBudget = 8 << 20

// Payloads makes jobs of deliveries, and keeps the payloads of those that wait within a budget.
type Payloads struct {
	on    *stream.Access
	trace func(*lifecycle.Job, jobs.Source) string
	held  atomic.Int64 // bytes
}

// NewPayloads keeps none. trace is the id of a job's trace.
func NewPayloads(on *stream.Access, trace func(*lifecycle.Job, jobs.Source) string) *Payloads {
	return &Payloads{on: on, trace: trace}
}

// Held is how many bytes are kept.
func (p *Payloads) Held() int64 { return p.held.Load() }

// Parse makes a job of a delivery.
func (p *Payloads) Parse(d *stream.Delivery) (j *lifecycle.Job, from jobs.Source) {
	j = &lifecycle.Job{Sequence: d.Sequence, Stored: d.Stored, Came: p.on.Clock.Mono(), Delivery: d.Reply, Size: len(d.Data), Data: d.Data}
	from, j.Env, j.Bad = jobs.ParseStored(d.Subject, d.Header, j.Sequence, p.on.Accounts())
	j.Trace = p.trace(j, from)
	return j, from
}

// Waiting is Parse for a job that may wait here.
func (p *Payloads) Waiting(d *stream.Delivery) (*lifecycle.Job, jobs.SessionRef) {
	j, from := p.Parse(d)
	j.Unkept = p.held.Add(int64(j.Size)) > payloadBudget
	return j, from.Session
}

// Body returns the payload, reading it again when it was not kept.
func (p *Payloads) Body(ctx context.Context, j *lifecycle.Job) ([]byte, error) {
	if j.Data != nil || j.Size == 0 {
		return j.Data, nil
	}
	m, err := p.on.Reads.Sequence(ctx, p.on.NC, stream.Jobs, j.Sequence)
	return m.Data, err
}

// Release drops the payload of a job that waited.
func (p *Payloads) Release(j *lifecycle.Job) {
	if j.Data != nil {
		p.held.Add(-int64(j.Size))
		j.Data = nil
	}
}
