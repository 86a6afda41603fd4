package sessions

import (
	"context"
	"errors"

	"github.com/dspex/dspex/internal/host/driver"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
)

func newPartition(s *service, epoch uint64) *partition {
	return &partition{service: s, epoch: epoch, sessions: map[jobs.SessionRef]*driver.Driver{}, next: 1, lost: make(chan error, 1)}
}

// end reports why the epoch is over; the first reason counts.
func (p *partition) end(err error) {
	select {
	case p.lost <- err:
	default:
	}
}

// shut lets nothing start any more: it drops what waits, and hands the sessions that still run to the ownership; their jobs
// come again in the next epoch. When the work has ended, they end too.
func (p *partition) shut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return
	}
	p.closing = true
	for _, d := range p.sessions {
		d.Close(func() { p.earlier.add(d) })
		if p.owned.Work.Err() != nil {
			d.Cut()
		}
	}
	p.all.Telemetry.Stats.Sessions.Add(-int64(len(p.sessions)))
}

// holders are the drivers of a session that this host has in memory, those of earlier epochs first.
func (p *partition) holders(ref jobs.SessionRef) []*driver.Driver {
	all := p.earlier.working(ref)
	p.mu.Lock()
	defer p.mu.Unlock()
	if d := p.sessions[ref]; d != nil {
		all = append(all, d)
	}
	return all
}

// approach has the sessions that wait for a run token set their timers, if these are near. The others have none: 100,000 sessions can
// wait, for hours.
func (p *partition) approach() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.sessions {
		d.Approach()
	}
}

// forgetIdle makes room; called with p.mu held.
func (p *partition) forgetIdle() {
	if len(p.sessions) < idleSessions {
		return
	}
	for ref, d := range p.sessions {
		if d.Idle() {
			p.forget(ref)
			return
		}
	}
}

// forget removes a session without work from memory; called with p.mu held.
func (p *partition) forget(ref jobs.SessionRef) {
	delete(p.sessions, ref)
	p.all.Telemetry.Stats.Sessions.Add(-1)
}

// errFenced reports that the partition is not the epoch's any more.
var errFenced = errors.New("fenced: the partition belongs to another epoch")

// mine reads the assignment again: errFenced if it moved on.
func (p *partition) mine(ctx context.Context) error {
	o, err := scope{p}.Owner(ctx)
	if err == nil && o != lifecycle.Mine {
		err = errFenced
	}
	return err
}
