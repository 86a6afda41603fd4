package provision

import (
	"encoding/base64"
	"strings"
	"sync"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/wire"
)

// pushedPrefix is that of the keys of the programs that an operator gave to all hosts. The value is the body of a frame PROGRAM, also of
// one that was taken back: its version must not come again.
const pushedPrefix = control.PushedPrefix

func pushedKey(id string) string {
	return pushedPrefix + base64.RawURLEncoding.EncodeToString([]byte(id))
}

// pushed are these programs, and which worker has which stored version of them. Their order is that of the bucket's revisions:
// versions may begin again where the bucket was lost.
type pushed struct {
	mu    sync.Mutex
	now   map[string]given             // by id
	known map[uint64]map[string]uint64 // revisions, by worker
}

// given is a program as it was stored.
type given struct {
	frame.ProgramBody

	revision uint64
}

// put notes a program, unless one that was stored later is known.
func (p *pushed) put(b frame.ProgramBody, revision uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == nil {
		p.now = map[string]given{}
	}
	if revision >= p.now[b.ID].revision {
		p.now[b.ID] = given{b, revision}
	}
}

// remove notes that there is no program under a key any more.
func (p *pushed) remove(key string, revision uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, b := range p.now {
		if pushedKey(id) == key && revision >= b.revision {
			p.now[id] = given{frame.ProgramBody{ID: id, Version: b.Version}, revision}
		}
	}
}

// version is the one that was given out last, by this host's reads.
func (p *pushed) version(id string) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now[id].Version
}

// send sends the worker what it does not have as it is stored. Jobs of one worker that begin at the same time wait for each other here:
// none may begin before what another one sends has gone out. send does not wait.
func (p *pushed) send(worker uint64, send func(frame.ProgramBody) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.now) == 0 {
		return nil
	}
	if p.known == nil || len(p.known) > mostWorkers {
		p.known = map[uint64]map[string]uint64{}
	}
	sent := p.known[worker]
	if sent == nil {
		sent = map[string]uint64{}
		p.known[worker] = sent
	}
	for id, b := range p.now {
		if sent[id] == b.revision {
			continue
		}
		if err := send(b.ProgramBody); err != nil {
			return err
		}
		sent[id] = b.revision
	}
	return nil
}

// pushedOf reads the content of a RESULT under `program`: the id, and the record, nil if there is to be none.
func pushedOf(sent []byte) (id string, record []byte) {
	in := wire.NewReader(sent)
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
