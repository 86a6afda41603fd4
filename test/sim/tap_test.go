package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// tap receives what the broker stores: a second consumer on a work queue is refused, RePublish is not. It has its own wire,
// which no fault cuts.
type tap struct {
	h  *history
	mu sync.Mutex
	nc *nats.Conn
	js jetstream.JetStream

	pieces map[string][]byte // of objects that are not whole; of the callback
}

const tapPrefix = "sim.tap."

// Subjects of objects: their pieces, and what makes them whole.
const (
	objectPieces = "$O." + stream.ObjectBucket + ".C."
	objectWhole  = "$O." + stream.ObjectBucket + ".M."
)

var tapped = []string{stream.Jobs, stream.Anonymous, stream.Dead, "KV_" + stream.Assign, "KV_" + stream.Sessions, "KV_" + stream.Results, "KV_" + stream.Control, stream.BatchesStream, stream.ObjectsStream}

// connect is called at each start of the broker, before anybody else can reach it.
func (p *tap) connect(s *server.Server) (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.nc != nil {
		p.nc.Close()
	}
	if p.nc, err = nats.Connect("", nats.InProcessServer(s), nats.NoReconnect()); err != nil {
		return fmt.Errorf("tap: %w", err)
	}
	if err := p.open(); err != nil {
		return err
	}
	sub, err := p.nc.Subscribe(tapPrefix+">", p.see)
	if err != nil {
		return fmt.Errorf("tap: %w", err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return fmt.Errorf("tap: %w", err)
	}
	return p.nc.Flush()
}

func (p *tap) open() (err error) {
	if p.js, err = jetstream.New(p.nc); err != nil {
		return fmt.Errorf("tap: %w", err)
	}
	return nil
}

// request sends a dispatcher a request, as an operator does.
func (p *tap) request(subject string, body []byte) (*nats.Msg, error) {
	p.mu.Lock()
	nc := p.nc
	p.mu.Unlock()
	return nc.Request(subject, body, 5*time.Second)
}

// prepare makes the broker objects as the first dispatcher would and has them republished.
func (p *tap) prepare(ctx context.Context, plan plan) error {
	if _, err := stream.Ensure(ctx, p.js, stream.Settings{Partitions: plan.partitions, Accounts: plan.tenants}); err != nil {
		return err
	}
	for _, name := range tapped {
		s, err := p.js.Stream(ctx, name)
		if err != nil {
			return fmt.Errorf("stream %s: %w", name, err)
		}
		cfg := s.CachedInfo().Config
		cfg.RePublish = &jetstream.RePublish{Source: ">", Destination: tapPrefix + ">"}
		if _, err := p.js.UpdateStream(ctx, cfg); err != nil {
			return fmt.Errorf("republish %s: %w", name, err)
		}
	}
	return nil
}

func (p *tap) see(m *nats.Msg) {
	if e, ok := p.read(m); ok {
		p.h.add(e)
	}
}

func (p *tap) read(m *nats.Msg) (event, bool) {
	rev, _ := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
	subject := strings.TrimPrefix(m.Subject, tapPrefix)
	e := event{who: "broker", rev: rev}
	switch {
	case subject == stream.AnchorSubject, strings.HasPrefix(subject, "dspex.probe."):
		return e, false
	case strings.HasPrefix(subject, "dspex.dlq."):
		e.kind, e.text, e.job = deadLetter, m.Header.Get("Nats-Msg-Id"), m.Header.Get(jobs.HeaderJob)
		if _, anonymous, ok := strings.Cut(e.text, "/."); ok {
			e.text = "." + anonymous
		}
	case jobs.SourceOf(subject).Lane != "":
		e.kind, e.seq, e.job = stored, rev, jobID(m, rev)
	case strings.HasPrefix(subject, "dspex.p"):
		e.kind, e.seq, e.job = stored, rev, jobID(m, rev)
		e.session = ref{jobs.SourceOf(subject).Session}.name()
		e.header, e.request = m.Header, m.Data
	case strings.HasPrefix(subject, programSubject):
		p.seeProgram(m, &e)
	case subject == "$KV."+stream.Control+"."+stream.ClockKey:
		steps, err := stream.ParseSteps(m.Data)
		if e.kind = told; err == nil {
			e.by = steps[len(steps)-1].By
		}
		return e, err == nil
	case strings.HasPrefix(subject, "$KV."+stream.Control+"."):
		name, err := control.BreakerName(strings.TrimPrefix(subject, "$KV."+stream.Control+"."))
		e.kind, e.text = opened, name
		return e, err == nil && m.Header.Get("KV-Operation") == ""
	case strings.HasPrefix(subject, objectPieces):
		if p.pieces == nil {
			p.pieces = map[string][]byte{}
		}
		name := strings.TrimPrefix(subject, objectPieces)
		p.pieces[name] = append(p.pieces[name], m.Data...)
		return e, false
	case strings.HasPrefix(subject, objectWhole):
		var meta struct{ Name string }
		if err := json.Unmarshal(m.Data, &meta); err != nil {
			e.kind, e.text = final, "unreadable object: "+err.Error()
			return e, true
		}
		e.kind, e.text, e.body = objected, meta.Name[strings.LastIndexByte(meta.Name, '.')+1:], string(p.pieces[meta.Name])
		delete(p.pieces, meta.Name)
	case strings.HasPrefix(subject, "$KV."+stream.Batches+"."):
		p.seeBatch(m, strings.TrimPrefix(subject, "$KV."+stream.Batches+"."), &e)
	case strings.HasPrefix(subject, "$KV."):
		_, key, _ := strings.Cut(strings.TrimPrefix(subject, "$KV."), ".")
		p.seeKey(m, key, &e)
	default:
		e.kind, e.text = final, "unknown subject on the tap: "+subject
	}
	return e, true
}

// named is the session of a key without its prefix: <id>, or <tenant>.<id>.
func named(rest string) string { return strings.Replace(rest, ".", "/", 1) }

// sessionIn is the session of a result's key: r.s.<id>.<job>, r.s.<tenant>.<id>.<job>, or of a job without session.
func sessionIn(key string) string {
	rest, ok := strings.CutPrefix(key, "r.s.")
	if !ok {
		return ""
	}
	return named(rest[:strings.LastIndexByte(rest, '.')])
}

func jobID(m *nats.Msg, seq uint64) string {
	if id := m.Header.Get(jobs.HeaderJob); id != "" {
		return id
	}
	return jobs.SequenceJob(seq)
}

func (p *tap) seeKey(m *nats.Msg, key string, e *event) {
	if m.Header.Get("Nats-Marker-Reason") != "" || m.Header.Get("KV-Operation") != "" {
		e.kind, e.text = removed, key
		if session, ok := strings.CutPrefix(key, "s."); ok && m.Header.Get("Nats-Marker-Reason") != "" { // one that is deleted is not over
			e.session = named(session)
		}
		return
	}
	var err error
	switch {
	case strings.HasPrefix(key, "s."):
		e.kind, e.session = committed, named(key[2:])
		if e.record, err = jobs.ParseRecord(m.Data); err == nil {
			e.seq = e.record.LastSequence
			if o := e.record.Last; o != nil {
				e.job, e.epoch, e.attempt, e.body, e.text = o.Job, o.Epoch, o.Attempt, string(o.Body), string(o.Kind)
			}
		}
	case strings.HasPrefix(key, "h."):
		e.kind, e.session = attemptRecorded, named(key[2:])
		if hd, bad := jobs.ParseAttemptRecord(m.Data); bad == nil {
			e.seq, e.epoch, e.attempt = hd.Sequence, hd.Epoch, hd.Attempt
			if !hd.NotBefore.IsZero() {
				e.text, e.notBefore, e.delay = fmt.Sprintf("retry after %v", hd.Delay), hd.NotBefore, hd.Delay
			}
		} else {
			err = bad
		}
	case strings.HasPrefix(key, "r."):
		e.kind = resulted
		if e.result, err = jobs.ParseResult(m.Data); err == nil {
			r := e.result
			e.session, e.job, e.seq, e.attempt, e.text, e.body = sessionIn(key), r.Job, r.Sequence, r.Attempt, string(r.Kind), string(r.Body)
		}
	case strings.HasPrefix(key, "p."):
		var o stream.Owner
		if o, err = stream.ParseOwner(m.Data); err == nil {
			e.kind, e.text, e.epoch, e.incarnation = assigned, key+" -> "+o.Host, e.rev, o.Incarnation
			e.who = o.Host
			e.seq, _ = strconv.ParseUint(key[2:], 10, 64)
		}
	default:
		e.kind, e.text = removed, "ignored "+key
	}
	if err != nil {
		e.kind, e.text = final, "unreadable "+key+": "+err.Error()
	}
}
