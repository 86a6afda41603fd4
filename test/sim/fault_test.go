package sim

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// faultKind is what can go wrong.
type faultKind string

const (
	hostKill        faultKind = "host killed"
	hostFreeze      faultKind = "host frozen"
	hostDrain       faultKind = "host drained"
	hostReplaced    faultKind = "host frozen and replaced by a duplicate"
	hostRetired     faultKind = "host drained and resumed by the operator"
	hostFreezeLong  faultKind = "host frozen for over an hour"
	allStopped      faultKind = "everything but the broker stopped for hours"
	cutBoth         faultKind = "host cut off"
	cutUp           faultKind = "host cut off, up only"
	cutDown         faultKind = "host cut off, down only"
	connReset       faultKind = "connection reset"
	serverCutOff    faultKind = "server of a host cut off from its cluster"
	election        faultKind = "brokers elect a leader"
	workerKill      faultKind = "worker killed"
	brokerRestart   faultKind = "broker restarted"
	brokerKill      faultKind = "broker killed"
	dispatchKill    faultKind = "dispatcher killed"
	dispatchFreeze  faultKind = "dispatcher frozen"
	dispatchRestart faultKind = "dispatcher restarted"
	ackLost         faultKind = "PubAck lost"
	deliveryLost    faultKind = "delivery lost"
	hostLate        faultKind = "host frozen until its job starts elsewhere"
	resultsFull     faultKind = "store of results full"
	recordsFull     faultKind = "store of records full"
	batchesFull     faultKind = "store of batches full"
	repartitioned   faultKind = "number of partitions changed by the operator"
	assignLost      faultKind = "bucket of assignments deleted"
	controlLost     faultKind = "bucket of control deleted"
	deadLettersLost faultKind = "stream of dead letters deleted"
	eventsLost      faultKind = "stream of events deleted"
	resultsLost     faultKind = "bucket of results deleted"
	recordsLost     faultKind = "bucket of sessions deleted"
	jobsLost        faultKind = "stream of jobs deleted"
	anonymousLost   faultKind = "stream of jobs without session deleted"
	batchesLost     faultKind = "bucket of batches deleted"
	intruder        faultKind = "consumer of somebody else on a partition"
	emptied         faultKind = "broker killed, and its store is empty"
	hostClock       faultKind = "clock of a host set"
	dispatchClock   faultKind = "clock of a dispatcher set"
	brokerClock     faultKind = "clock of the broker set"
	fullAndKill     faultKind = "store of results full, and then the host killed"
)

// timedFaults can strike at any time; the others belong to points.
var timedFaults = []faultKind{hostKill, hostFreeze, hostDrain, hostReplaced, hostRetired, cutBoth, cutUp, cutDown, connReset, serverCutOff, election, workerKill, brokerRestart, brokerKill, dispatchKill, dispatchFreeze, dispatchRestart, resultsFull, recordsFull, batchesFull, repartitioned,
	assignLost, controlLost, deadLettersLost, eventsLost, resultsLost, recordsLost, jobsLost, anonymousLost, batchesLost, intruder, emptied, hostClock, dispatchClock, brokerClock}

// hostFaults are those that a host's point can bring.
var hostFaults = []faultKind{hostKill, hostKill, hostKill, hostFreeze, cutBoth, cutUp, cutDown, connReset, workerKill, brokerRestart, brokerKill}

var dispatcherFaults = []faultKind{dispatchKill, dispatchFreeze, connReset, brokerKill}

// plannedFault is one fault of a plan.
type plannedFault struct {
	kind   faultKind
	at     time.Duration // timed ones
	lasts  time.Duration // freeze, cut, time away
	target string        // process
}

// strike carries a fault out. It does not wait: it may run on a cable.
func (w *world) strike(f plannedFault, p *process, at string) {
	if p == nil && f.target != "" && f.kind != hostClock && f.kind != dispatchClock { // a machine's clock can be set while nothing runs there
		return // it is away already
	}
	who, row := "broker", at
	if p != nil {
		who = p.who
	}
	if at == "" {
		row = anyTime
	}
	inFlight := w.inFlight(p)
	w.history.add(event{kind: fault, who: who, text: fmt.Sprintf("%s for %v at %s (in flight: %v)", f.kind, f.lasts, row, inFlight)})
	if inFlight || at != "" { // what comes to a point is about a job
		w.coverage.add(row, string(f.kind), 1)
	}
	switch f.kind {
	case hostKill, dispatchKill:
		p.kill(f.lasts)
	case hostFreeze, dispatchFreeze:
		p.freeze(f.lasts)
	case hostLate:
		w.freezeUntilTaken(p, f.lasts)
	case hostFreezeLong:
		p.freeze(f.lasts)
		w.after(time.Minute, func() { w.stopOthers(p, f.lasts-time.Minute) }) // what they have to do is done; an hour of theirs costs seconds
	case hostDrain, dispatchRestart:
		p.drain(f.lasts)
	case hostReplaced:
		p.freeze(f.lasts)
		p.abandon()
	case hostRetired:
		w.retire(p.name, f.lasts)
	case allStopped:
		w.stopOthers(nil, f.lasts)
	case cutBoth:
		p.hold(true, true, f.lasts)
	case cutUp:
		p.hold(true, false, f.lasts)
	case cutDown:
		p.hold(false, true, f.lasts)
	case connReset, ackLost:
		p.cable.drop()
	case serverCutOff:
		if n := p.server(); n >= 0 {
			w.isolate(n, f.lasts)
		}
	case election:
		w.elect(f.lasts)
	case workerKill:
		if p.pool != nil { // a dispatcher has none
			p.pool.killWorker()
		}
	case brokerKill, brokerRestart:
		w.endBroker(f, p)
	case resultsFull, recordsFull, batchesFull, fullAndKill:
		w.fill(f, p)
	case repartitioned:
		w.repartition(1 + int(f.at.Milliseconds())%8)
	case assignLost, controlLost, deadLettersLost, eventsLost, resultsLost, recordsLost, jobsLost, anonymousLost, batchesLost:
		w.lose(f.kind)
	case intruder:
		w.intrude(f)
	case emptied:
		w.empty(f)
	case hostClock, dispatchClock, brokerClock:
		w.setClock(f)
	}
}

// freezeUntilTaken lets a host go on just when another one has started an attempt: what it was about to write meets the work
// of its successor.
func (w *world) freezeUntilTaken(p *process, most time.Duration) {
	p.cable.partition(true, true)
	p.pool.gate.cut()
	thaw := sync.OnceFunc(func() {
		p.cable.heal(true, true)
		p.pool.gate.mend()
	})
	w.points.arm(&trigger{at: pointRunStart, but: p.name, does: thaw})
	w.after(most, thaw)
}

// retire has the operator drain a host, and resume it later.
func (w *world) retire(host string, d time.Duration) {
	ask := func(verb string) {
		for range 20 { // the dispatchers, or the broker, may be away
			m, err := w.tap.request("dspex.rpc.hosts."+verb, fmt.Appendf(nil, `{"host": %q}`, host))
			if err == nil && m.Header.Get(jobs.HeaderError) == "" {
				return
			}
			sleep(time.Second)
		}
	}
	w.wg.Go(func() { ask("drain") })
	w.after(d+25*time.Second, func() { ask("resume") })
}

// stopOthers stops all hosts and dispatchers but one at once.
func (w *world) stopOthers(but *process, d time.Duration) {
	w.mu.Lock()
	w.closedUntil = time.Now().Add(d)
	w.mu.Unlock()
	for _, p := range w.running() {
		if p != but {
			p.kill(d)
		}
	}
	w.after(d, func() {})
}

// endBroker has the director end the broker. Until it comes to that the process at whose point it happens receives nothing.
func (w *world) endBroker(f plannedFault, p *process) {
	if p != nil {
		p.cable.partition(true, true)
	}
	w.requests <- func() {
		if p != nil {
			defer p.cable.heal(true, true)
		}
		if w.broker.srv.Load() == nil {
			return
		}
		if f.kind == brokerRestart {
			w.broker.stop()
		} else if err := w.broker.kill(); err != nil {
			w.broken = err
			return
		}
		w.after(f.lasts, func() {
			w.requests <- func() {
				if err := w.broker.start(); err != nil {
					w.broken = err
				}
			}
		})
	}
}

// inFlight reports whether a job is under way where the fault strikes.
func (w *world) inFlight(p *process) bool {
	if p == nil || p.pool == nil {
		return w.history.inFlight("")
	}
	return w.history.inFlight(p.name)
}

// passes is called by a cable for each publication of a process.
func (w *world) passes(p *process, m publication) verdict {
	if name, makes := strings.CutPrefix(m.subject, "$JS.API.STREAM.CREATE."); makes {
		return verdict{instead: tapNew(name, m)}
	}
	at := classify(m)
	if at == "" {
		return verdict{}
	}
	if p.client && at == pointEndpoint {
		at = pointSubmit
	}
	if p.pool != nil && at == pointResults { // it looks whether ids have outcomes, not how a batch stands
		at = pointLook
	}
	t := w.points.next(at, p.name)
	if t == nil {
		return verdict{}
	}
	strike := func() { w.strike(t.fault, p, string(t.at)+side(t.after)) }
	if t.after {
		return verdict{after: strike}
	}
	return verdict{before: strike}
}

func side(after bool) string {
	if after {
		return ", after"
	}
	return ", before"
}

// arrives is called by a cable for each message that comes to a host.
func (w *world) arrives(p *process, m publication) verdict {
	if !strings.HasPrefix(m.reply, "$JS.ACK.") || !strings.Contains(m.reply, "."+stream.Jobs+".") {
		return verdict{}
	}
	t := w.points.next(pointDeliver, p.name)
	if t == nil {
		return verdict{}
	}
	strike := func() { w.strike(t.fault, p, string(t.at)+side(t.after)) }
	if t.after {
		return verdict{after: strike}
	}
	return verdict{before: strike, lost: t.fault.kind == deliveryLost}
}

// workerPoint is called by a worker at the edges of an attempt.
func (w *world) workerPoint(p *pool, at point) {
	host := w.processOf(p)
	if host == nil {
		return
	}
	switch t := w.points.next(at, host.name); {
	case t == nil:
	case t.does != nil:
		t.does()
	default:
		w.strike(t.fault, host, string(at))
	}
}

func (w *world) processOf(p *pool) *process {
	for _, q := range w.running() {
		if q.pool == p {
			return q
		}
	}
	return nil
}
