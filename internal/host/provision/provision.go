// Package provision gives workers what their calls need: language models, the programs that an operator pushed to all hosts,
// and those that anonymous jobs have made.
package provision

import (
	"context"
	"time"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/host/workers"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// Models turns a choice of language model into the LM frame that defines it.
type Models interface {
	// Named finds a profile of the host; Chosen one that a client requested by set_lm arguments; Default the host's own
	// ("" when there is none; an error when it cannot be used). The key changes whenever the profile's content does.
	Named(name string) (jobs.Model, *jobs.Error)
	Chosen(args []byte) (jobs.Model, *jobs.Error)
	Default() (jobs.Model, *jobs.Error)
	SetDefault(args []byte) *jobs.Error
}

// Provision is what the workers of a host are to have. Make it with New, then Open it.
type Provision struct {
	models   Models
	on       *stream.Access
	profiles sentProfiles
	pushed   pushed
}

// New makes it.
func New(models Models, on *stream.Access) *Provision { return &Provision{models: models, on: on} }

// Worker gives the worker of a slot what was pushed. A later call finds it applied.
func (p *Provision) Worker(slot workers.Slot) *jobs.Error {
	err := p.pushed.send(slot.WorkerID(), func(b frame.ProgramBody) error {
		return slot.Send(frame.Program, b.AppendBody(nil))
	})
	if err != nil {
		return workers.CallError(err, slot.WorkerName())
	}
	return nil
}

// Model gives the worker of a slot a language model.
func (p *Provision) Model(slot workers.Slot, m jobs.Model) *jobs.Error {
	err := p.profiles.send(slot.WorkerID(), m.Key, func() error {
		return slot.Send(frame.LM, frame.LMBody{Key: m.Key, Profile: m.Profile}.AppendBody(nil))
	})
	if err != nil {
		return workers.CallError(err, slot.WorkerName())
	}
	return nil
}

// PublishDefault makes a choice the default of every host.
func (p *Provision) PublishDefault(ctx context.Context, args []byte) *jobs.Error {
	for range tries {
		e, err := p.on.Control.Get(ctx, control.DefaultLMKey)
		if err == nil {
			_, err = p.on.Control.PutSync(control.DefaultLMKey, args, e.Revision, 0)
		}
		if err == nil {
			return p.models.SetDefault(args)
		}
	}
	return jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the choice of language model could not be stored").Again()
}

// FollowDefault applies what any host's set_lm chose.
func (p *Provision) FollowDefault(ctx context.Context) {
	stream.Follow(ctx, p.on.JS, stream.Control, control.DefaultLMKey, p.on.Log, func(_ string, args []byte) {
		if args == nil {
			return
		}
		if !control.IsDefaultLM(args) {
			p.on.Log.Error("default_lm_not_ours", "hint", "health names it; remove the key, or run set_lm again")
			return
		}
		if bad := p.models.SetDefault(args); bad != nil {
			p.on.Log.Warn("default_lm_unusable", "code", bad.Code, "error", bad.Message)
		}
	})
}

// tries bounds how often a write is repeated that another one has overtaken.
const tries = 8

// programsWait bounds the wait of a host that starts for what was pushed before: its first job should find that, but a broker that
// does not answer must not keep it from all others.
const programsWait = 2 * time.Second

// Await returns when known is closed, or late.
func (p *Provision) Await(ctx context.Context, known <-chan struct{}) {
	select {
	case <-known:
	case <-ctx.Done():
	case <-time.After(programsWait):
		p.on.Log.Warn("pushed_programs_not_read")
	}
}
