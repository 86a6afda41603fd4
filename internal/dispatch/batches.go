package dispatch

import (
	"context"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/dispatch/audit"
	"github.com/dspex/dspex/internal/dispatch/batches"
	"github.com/dspex/dspex/internal/dispatch/endpoint"
	"github.com/dspex/dspex/internal/fair"
	"github.com/dspex/dspex/internal/jobs"
)

// newBatches makes what answers requests about batches, and runs them, and what stores jobs all or none (package batches).
func newBatches(d *Dispatcher) (*batches.Service, *batches.Atomic) {
	cfg := batches.Config{Broker: d.broker, Leads: d.leader.Leads, Cancel: d.lookup.End, Decided: d.lookup.Decided, Bounds: d.quotas.Batches, Slots: func() int { return batchSlots(d.hosts.Live()) }, Weights: func() fair.Weights { return *d.weights.Load() }, Admit: d.quotas.AdmitAll, Refusal: d.probes.Refusal, Missed: missed(d)}
	return batches.New(cfg), batches.NewAtomic(cfg)
}

// batchSlots is how many jobs of the lane batch the hosts can run at a time.
func batchSlots(hosts []control.Heartbeat) (n int) {
	for _, b := range hosts {
		if !b.Stopping {
			n += fair.BatchSlots(b.Capacity)
		}
	}
	return n
}

// missed finds out why a stream has not stored jobs.
func missed(d *Dispatcher) func(stream string, err error) *jobs.Error {
	return func(stream string, err error) *jobs.Error {
		d.stores.Missed(err)
		why := make(chan error, 1)
		d.probes.Diagnose(stream, err, func(err error) { why <- err })
		return endpoint.NotAccepted(<-why)
	}
}

// batchEndpoints are the requests of contract/batch.md.
func batchEndpoints(d *Dispatcher, waiting, aside func(func(context.Context, endpoint.Request)) func(endpoint.Request)) []served {
	answer := func(f func(context.Context, batches.Request) batches.Answer) func(context.Context, endpoint.Request) {
		return func(ctx context.Context, r endpoint.Request) {
			a := f(ctx, batches.Request{Tenant: endpoint.TenantOf(r), Type: r.Headers().Get(jobs.HeaderContentType), Body: r.Data(), Trace: r.Headers().Get(contract.HeaderTraceparent)})
			if noted, is := r.(interface{ NoteRefusal(*jobs.Error) }); is && a.Err != nil {
				noted.NoteRefusal(a.Err)
			}
			endpoint.Respond(r, a.Body())
		}
	}
	b := d.batches
	return []served{
		at("jobs-submit", contract.RPCJobsSubmit, audit.Operator, aside(answer(d.atomic.Submit))),
		at("batches-upload", contract.RPCBatchesUpload, audit.Operator, aside(answer(b.Upload))),
		at("batches-submit", contract.RPCBatchesSubmit, audit.Operator, aside(answer(b.Submit))),
		at("batches-get", contract.RPCBatchesGet, audit.None, waiting(answer(b.Get))),
		at("batches-list", contract.RPCBatchesList, audit.None, aside(answer(b.List))),
		at("batches-results", contract.RPCBatchesResults, audit.Operator, aside(answer(b.Results))),
		at("batches-cancel", contract.RPCBatchesCancel, audit.Operator, aside(answer(b.Cancel))),
		at("batches-erase", contract.RPCBatchesErase, audit.Operator, aside(answer(b.Erase))),
	}
}
