package provision

import (
	"context"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// FollowPrograms applies what any host has stored; known is called when all that was there is known.
func (p *Provision) FollowPrograms(ctx context.Context, known func()) {
	stream.FollowKnown(ctx, p.on.JS, stream.Control, pushedPrefix+"*", p.on.Log, p.notePushed, known)
}

func (p *Provision) notePushed(key string, e stream.Entry) {
	if len(e.Value) == 0 { // somebody has deleted the key
		p.pushed.remove(key, e.Revision)
		return
	}
	b, err := frame.ParseProgram(e.Value)
	if err != nil {
		p.on.Log.Warn("pushed_program_unreadable", "error", err)
		return
	}
	p.pushed.put(b, e.Revision)
}

// PublishProgram stores what push_program or withdraw_program has checked, for all hosts.
func (p *Provision) PublishProgram(ctx context.Context, checked []byte) *jobs.Error {
	id, record := pushedOf(checked)
	if !validProgramID(id) {
		return jobs.Errorf(jobs.Communication, jobs.CodeBadFrame, "the worker's result names no program")
	}
	var failed error
	for range tries {
		e, err := p.on.Control.Get(ctx, pushedKey(id))
		if err != nil {
			failed = err
			continue
		}
		b := frame.ProgramBody{ID: id, Version: p.pushed.version(id) + 1, Record: record}
		if before, err := frame.ParseProgram(e.Value); err == nil {
			b.Version = max(b.Version, before.Version+1)
			if string(before.Record) == string(record) { // an attempt before this one has stored it
				p.pushed.put(before, e.Revision)
				return nil
			}
		}
		var revision uint64
		if revision, failed = p.on.Control.PutSync(pushedKey(id), b.AppendBody(nil), e.Revision, 0); failed == nil {
			p.pushed.put(b, revision)
			return nil
		}
	}
	return jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the program could not be stored: %v", failed).Again()
}
