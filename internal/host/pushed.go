package host

import (
	"context"
	"encoding/base64"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/host/workers"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/wire"
)

// pushedPrefix is that of the keys of the programs that an operator gave to all hosts. The value is the body of a frame PROGRAM, also of
// one that was taken back: its version must not come again.
const pushedPrefix = jobs.PushedPrefix

func pushedKey(id string) string {
	return pushedPrefix + base64.RawURLEncoding.EncodeToString([]byte(id))
}

// pushed are these programs, and which worker knows which version of them.
type pushed struct {
	mu    sync.Mutex
	now   map[string]frame.ProgramBody // by id
	known map[uint64]map[string]uint64 // versions, by worker
}

// put notes a program, unless a later version of it is known.
func (p *pushed) put(b frame.ProgramBody) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == nil {
		p.now = map[string]frame.ProgramBody{}
	}
	if b.Version >= p.now[b.ID].Version {
		p.now[b.ID] = b
	}
}

// news are the programs that the worker does not know as they are. It counts as told.
func (p *pushed) news(worker uint64) []frame.ProgramBody {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.now) == 0 {
		return nil
	}
	if p.known == nil || len(p.known) > toldWorkers {
		p.known = map[uint64]map[string]uint64{}
	}
	told := p.known[worker]
	if told == nil {
		told = map[string]uint64{}
		p.known[worker] = told
	}
	var found []frame.ProgramBody
	for id, b := range p.now {
		if told[id] != b.Version {
			told[id] = b.Version
			found = append(found, b)
		}
	}
	return found
}

// forget has the worker told everything again.
func (p *pushed) forget(worker uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.known, worker)
}

// tellPrograms makes the worker know what was pushed, before its next call.
func (h *Host) tellPrograms(slot workers.Slot) *jobs.Error {
	for _, b := range h.pushed.news(slot.WorkerID()) {
		if err := slot.Tell(frame.Program, b.AppendBody(nil)); err != nil {
			h.pushed.forget(slot.WorkerID())
			return workers.CallError(err, slot.WorkerName())
		}
	}
	return nil
}

// followPrograms applies what any host has stored; known is called when all that was there is known.
func (h *Host) followPrograms(ctx context.Context, known func()) {
	stream.FollowKnown(ctx, h.js, stream.Control, pushedPrefix+"*", h.log, func(_ string, value []byte) { h.notePushed(value) }, known)
}

// programsWait bounds the wait of a host that starts for what was pushed before: its first job should find that, but a broker that
// does not tell must not keep it from all others.
const programsWait = 2 * time.Second

func (h *Host) awaitPrograms(ctx context.Context, known <-chan struct{}) {
	select {
	case <-known:
	case <-ctx.Done():
	case <-time.After(programsWait):
		h.log.Warn("pushed_programs_not_read")
	}
}

func (h *Host) notePushed(value []byte) {
	if len(value) == 0 {
		return
	}
	b, err := frame.ParseProgram(value)
	if err != nil {
		h.log.Warn("pushed_program_unreadable", "error", err)
		return
	}
	h.pushed.put(b)
}

// publishProgram stores what push_program or withdraw_program has checked, for all hosts.
func (h *Host) publishProgram(ctx context.Context, told []byte) *jobs.Error {
	id, record := pushedOf(told)
	if !validProgramID(id) {
		return jobs.Errorf(jobs.Communication, jobs.CodeBadFrame, "the worker's result names no program")
	}
	var failed error
	for range tries {
		e, err := h.control.Get(ctx, pushedKey(id))
		if err != nil {
			failed = err
			continue
		}
		b := frame.ProgramBody{ID: id, Version: 1, Record: record}
		if before, err := frame.ParseProgram(e.Value); err == nil {
			b.Version = before.Version + 1
			if string(before.Record) == string(record) { // an attempt before this one has stored it
				h.pushed.put(before)
				return nil
			}
		}
		if _, failed = h.control.PutSync(pushedKey(id), b.AppendBody(nil), e.Revision, 0); failed == nil {
			h.pushed.put(b)
			return nil
		}
	}
	return jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the program could not be stored: %v", failed).Again()
}

// pushedOf reads what a RESULT says under `program`: the id, and the record, nil if there is to be none.
func pushedOf(told []byte) (id string, record []byte) {
	in := wire.NewReader(told)
	n, _ := in.Map()
	for range n {
		key, _ := in.Str()
		kind := in.Kind()
		raw, err := in.Raw()
		switch {
		case err != nil:
			return "", nil
		case key == "id" && kind == wire.Str:
			id, _ = wire.NewReader(raw).Str()
		case key == "record" && kind == wire.Map:
			record = raw
		}
	}
	return strings.TrimSpace(id), record
}
