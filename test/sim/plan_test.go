package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// plan is one scenario, all of it drawn from the seed.
type plan struct {
	seed        uint64
	partitions  int
	dispatchers int
	hosts       []hostPlan
	latency     time.Duration
	idle        time.Duration // SessionIdle
	active      time.Duration // faults strike until then
	clients     [][]op
	mood        *mood // of the clients; nil: none in particular
	faults      []plannedFault
	triggers    []*trigger
	gentle      bool // nothing else is joined with it
	uploads     bool // many of its jobs have their arguments uploaded
	whole       bool // nothing of it may cost a job an attempt
	inTurn      bool // one client, one job after the other
	clustered   bool // hosts and dispatchers have the addresses of two servers
	tenants     bool // clients are of two tenants, with the same sessions and job ids
	batching    bool // there are batches
	cancelling  bool // all of them are cancelled
	batches     []batchPlan
}

// String describes the scenario.
func (p plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d dispatchers, hosts %v, %d clients, latency up to %v, idle time %v\n", p.seed, p.dispatchers, p.hosts, len(p.clients), p.latency, p.idle)
	for _, f := range p.faults {
		fmt.Fprintf(&b, "  at %v: %s %s for %v\n", f.at, f.kind, f.target, f.lasts)
	}
	for _, t := range p.triggers {
		fmt.Fprintf(&b, "  %s at %q%s, the %dth time: %s for %v\n", t.target, t.at, side(t.after), t.nth+1, t.fault.kind, t.fault.lasts)
	}
	for _, batch := range p.batches {
		fmt.Fprintf(&b, "  at %v: batch %s of %d jobs, cut by %d, %d at a time, cancelled after %v\n", batch.starts, batch.name(), len(batch.jobs), batch.cut, batch.concurrency, batch.cancel)
	}
	return b.String()
}

type hostPlan struct {
	name           string
	workers, slots int
	joins          time.Duration
}

// op is one thing that a client does.
type op struct {
	think    time.Duration // before it
	endpoint endpoint
	tenant   string // empty: default
	session  string // empty: anonymous
	job      string // empty: none chosen
	command  string
	work     work
	options  map[string]any
	awaits   bool   // the outcome, before the next op
	lane     string // of an anonymous job
	reply    bool   // by Dspex-Reply-To, else by jobs.get
	polls    bool   // queries jobs.get where the job stands, and does not wait there
	msgpack  bool
	uploads  bool           // its arguments, which the request refers to
	object   map[string]any // the reference
	repeat   bool           // of an earlier job, with the same id
	cancel   time.Duration  // after it, the job is cancelled; 0: never
	due      time.Duration  // deadline in the header, which is no part of the payload
}

type endpoint int

const (
	endpointPublish endpoint = iota // durable publish
	endpointCall                    // RPC
)

// scenario is one thing that a seed can be about.
type scenario struct {
	name string
	add  func(*rand.Rand, *plan)
}

// scenarios are each fault at any time, each point on either side, and what takes more than one fault; those that no other one is
// joined with come last.
func scenarios() (list []scenario) {
	add := func(name string, f func(*rand.Rand, *plan)) { list = append(list, scenario{name, f}) }
	for _, k := range timedFaults {
		add(string(k), func(r *rand.Rand, p *plan) { p.addTimed(r, k) })
	}
	for _, at := range hostPoints {
		for _, after := range []bool{false, true} {
			add(string(at)+side(after), func(r *rand.Rand, p *plan) { p.addPoint(r, at, after) })
		}
	}
	for _, at := range dispatcherPoints {
		for _, after := range []bool{false, true} {
			add("dispatcher: "+string(at)+side(after), func(r *rand.Rand, p *plan) {
				p.uploads = p.uploads || at == pointPiece || at == pointObject
				p.addTrigger(r, at, after, pick(r, dispatcherFaults), "d0")
			})
		}
	}
	for _, at := range batchPoints {
		for _, after := range []bool{false, true} {
			add("batch: "+string(at)+side(after), func(r *rand.Rand, p *plan) { p.addBatchPoint(r, at, after) })
		}
	}
	add(batchesUnderFire, batching)
	add("batch cancelled while its leader stands still", func(r *rand.Rand, p *plan) { p.cancelLate(r) })
	add(string(ackLost), func(r *rand.Rand, p *plan) { p.addTrigger(r, pointSubmit, true, ackLost, "") })
	add(string(deliveryLost), func(r *rand.Rand, p *plan) { p.addTrigger(r, pointDeliver, false, deliveryLost, pick(r, p.hosts).name) })
	for _, m := range moods {
		add(m.name, func(r *rand.Rand, p *plan) { m.sets(r, p); p.mood = m })
	}
	add(string(hostLate), func(r *rand.Rand, p *plan) { p.lateWrite(r) })
	add(string(fullAndKill), func(r *rand.Rand, p *plan) {
		p.addTrigger(r, pointRecord, true, fullAndKill, pick(r, p.hosts).name)
	})
	add("host frozen after it has written an attempt record", func(r *rand.Rand, p *plan) { p.freezeBeforeCall(r) })
	add("host killed after the broker's clock was set", func(r *rand.Rand, p *plan) { p.startAfterAStep(r) })
	add("storm", func(r *rand.Rand, p *plan) { p.storm(r) })
	add("leader restarted again and again", func(r *rand.Rand, p *plan) { p.restartLeader(r) })
	add("language model that fails", func(r *rand.Rand, p *plan) { p.failModel(r) })
	add("workers that die with all that is in them", func(r *rand.Rand, p *plan) { p.killWorkers(r) })
	add(string(allStopped), func(r *rand.Rand, p *plan) { p.pauseForHours(r) })
	add(string(hostFreezeLong), func(r *rand.Rand, p *plan) { p.freezeForAnHour(r) })
	return list
}

// loners is the number of scenarios that no other one is joined with: they take hours, or nothing else may disturb them.
const loners = 5

// makePlan draws a scenario. The seed's remainder decides what it is about, so that consecutive seeds cover everything evenly.
func makePlan(seed uint64) plan {
	r := rand.New(rand.NewPCG(seed, 0x5eed))
	p := plan{seed: seed, partitions: 4, dispatchers: 1 + r.IntN(2), active: 20 * time.Second, idle: time.Hour}
	if r.IntN(2) == 0 {
		p.latency = time.Duration(200+r.IntN(4000)) * time.Microsecond
	}
	if r.IntN(6) == 0 {
		p.idle = 3 * time.Second
	}
	for n := range 1 + r.IntN(3) {
		p.hosts = append(p.hosts, hostPlan{name: fmt.Sprint("h", n), workers: 1 + r.IntN(2), slots: 1 + r.IntN(4)})
		if r.IntN(5) == 0 {
			p.hosts[n].joins = time.Duration(r.IntN(10000)) * time.Millisecond
		}
	}
	list := scenarios()
	list[seed%uint64(len(list))].add(r, &p)
	for range r.IntN(4) {
		if joined := pick(r, list[:len(list)-loners]); !p.gentle {
			joined.add(r, &p)
		}
	}
	if slices.ContainsFunc(p.faults, func(f plannedFault) bool { return f.kind == allStopped }) {
		// Keys do not expire by a clock that was set: attempts would be lost while their jobs have time left.
		p.faults = slices.DeleteFunc(p.faults, func(f plannedFault) bool { return f.kind == brokerClock })
	}
	slices.SortStableFunc(p.faults, func(a, b plannedFault) int { return int(a.at - b.at) })
	p.addClients(r)
	return p
}

func (p *plan) addTimed(r *rand.Rand, k faultKind) {
	f := plannedFault{kind: k, at: 3*time.Second + time.Duration(r.Int64N(int64(p.active-4*time.Second))), lasts: lasting(r), target: pick(r, p.hosts).name}
	switch k {
	case hostReplaced:
		f.lasts += 3 * time.Second
	case dispatchKill, dispatchFreeze, dispatchRestart, dispatchClock:
		f.target = fmt.Sprint("d", r.IntN(p.dispatchers))
	case serverCutOff:
		f.lasts, p.clustered = 40*time.Second, true
	case election:
		f.target, f.lasts, p.clustered = "", 4*time.Second+time.Duration(r.IntN(5000))*time.Millisecond, true
	case brokerKill, brokerRestart, emptied:
		f.target, f.lasts = "", time.Duration(r.IntN(5000))*time.Millisecond
	case resultsFull, recordsFull, batchesFull, repartitioned, assignLost, controlLost, deadLettersLost, eventsLost, batchesLost, brokerClock, intruder:
		f.target = ""
	}
	p.faults = append(p.faults, f)
}

func (p *plan) addTrigger(r *rand.Rand, at point, after bool, k faultKind, target string) {
	f := plannedFault{kind: k, lasts: lasting(r), target: target}
	if k == brokerKill || k == brokerRestart {
		f.lasts = time.Duration(r.IntN(5000)) * time.Millisecond
	}
	p.triggers = append(p.triggers, &trigger{at: at, after: after, nth: r.IntN(6), target: target, fault: f})
}

// addPoint strikes a host at a point of its way. It comes to the reset of a consumer only after it has lost its connection.
func (p *plan) addPoint(r *rand.Rand, at point, after bool) {
	kind, target := pick(r, hostFaults), pick(r, p.hosts).name
	p.addTrigger(r, at, after, kind, target)
	t := p.triggers[len(p.triggers)-1]
	switch at {
	default:
		return
	case pointDead, pointAnonResult, pointAnonAck: // few pass there
		t.nth, t.target, t.fault.target = r.IntN(2), "", ""
		return
	case pointProgram:
		t.nth, t.target, t.fault.target, p.mood = r.IntN(3), "", "", pushing
		return
	case pointReset:
		t.nth = r.IntN(2)
	}
	for range 2 {
		p.addTimed(r, connReset)
		p.faults[len(p.faults)-1].target = target
	}
}

// freezeBeforeCall stops a host between the record of an attempt and its start, for as long as others need to run the job.
func (p *plan) freezeBeforeCall(r *rand.Rand) {
	p.twoHosts()
	for range 2 {
		f := plannedFault{kind: hostFreeze, lasts: 16*time.Second + time.Duration(r.IntN(8000))*time.Millisecond, target: "h0"}
		p.triggers = append(p.triggers, &trigger{at: pointAttemptRecord, after: true, nth: r.IntN(6), target: "h0", fault: f})
	}
}

// startAfterAStep sets the broker's clock, and starts every host again when the leader has had time to record it.
func (p *plan) startAfterAStep(r *rand.Rand) {
	at := 4*time.Second + time.Duration(r.IntN(4000))*time.Millisecond
	p.faults = append(p.faults, plannedFault{kind: brokerClock, at: at})
	for _, h := range p.hosts {
		p.faults = append(p.faults, plannedFault{kind: hostKill, at: at + 3*time.Second + time.Duration(r.IntN(5000))*time.Millisecond, lasts: time.Duration(r.IntN(2000)) * time.Millisecond, target: h.name})
	}
}

// storm lets hosts come and go in quick succession.
func (p *plan) storm(r *rand.Rand) {
	for n := range 6 {
		f := plannedFault{kind: pick(r, []faultKind{hostDrain, hostKill, connReset}), at: 3*time.Second + time.Duration(n)*2*time.Second,
			lasts: time.Duration(r.IntN(3000)) * time.Millisecond, target: pick(r, p.hosts).name}
		p.faults = append(p.faults, f)
	}
}

// restartLeader restarts the one dispatcher, time and again, under jobs that may start only once. The hosts send at different
// moments of a second.
func (p *plan) restartLeader(r *rand.Rand) {
	p.gentle, p.whole, p.dispatchers, p.hosts = true, true, 1, nil
	for n := range 3 {
		p.hosts = append(p.hosts, hostPlan{name: fmt.Sprint("h", n), workers: 2, slots: 4, joins: time.Duration(n*300+r.IntN(300)) * time.Millisecond})
	}
	for at := 5 * time.Second; at < p.active; at += 3 * time.Second {
		p.faults = append(p.faults, plannedFault{kind: dispatchRestart, at: at, lasts: time.Duration(r.IntN(1500)) * time.Millisecond, target: "d0"})
	}
	p.mood = &mood{tunes: once}
}

// failModel has jobs of all hosts fail by the language model, one after the other, with successes in between.
func (p *plan) failModel(r *rand.Rand) {
	p.gentle, p.inTurn, p.hosts = true, true, nil
	for n := range 2 + r.IntN(2) {
		p.hosts = append(p.hosts, hostPlan{name: fmt.Sprint("h", n), workers: 1, slots: 4})
	}
	p.mood = &mood{tunes: byModel}
}

// killWorkers ends workers that have a lot in them.
func (p *plan) killWorkers(r *rand.Rand) {
	p.gentle, p.hosts = true, []hostPlan{{name: "h0", workers: 1, slots: 16}}
	for n := range 3 {
		p.faults = append(p.faults, plannedFault{kind: workerKill, at: time.Duration(4+3*n)*time.Second + time.Duration(r.IntN(1000))*time.Millisecond, target: "h0"})
	}
	p.mood = &mood{tunes: crowding}
}

// pauseForHours stops everything but the broker until records have expired.
func (p *plan) pauseForHours(r *rand.Rand) {
	at := 3*time.Second + time.Duration(r.Int64N(int64(10*time.Second)))
	p.faults = append(p.faults, plannedFault{kind: allStopped, at: at, lasts: 3*time.Hour + time.Duration(r.IntN(7200))*time.Second})
}

// lateWrite lets a host's write arrive when its successor works on the same job.
func (p *plan) lateWrite(r *rand.Rand) {
	p.twoHosts()
	at := pick(r, []point{pointAttemptRecord, pointRunStart, pointRunEnd, pointRetry, pointRecord, pointRecord, pointRecord, pointResult})
	f := plannedFault{kind: hostLate, lasts: 25 * time.Second, target: "h0"}
	p.triggers = append(p.triggers, &trigger{at: at, nth: r.IntN(4), target: "h0", fault: f})
}

func (p *plan) twoHosts() {
	for len(p.hosts) < 2 {
		p.hosts = append(p.hosts, hostPlan{name: fmt.Sprint("h", len(p.hosts)), workers: 1, slots: 4})
	}
}

// freezeForAnHour stops a host in the middle of a job until what it has read of the session is too old to be written to.
func (p *plan) freezeForAnHour(r *rand.Rand) {
	p.idle = 3 * time.Second
	p.twoHosts()
	at := pick(r, []point{pointAttemptRecord, pointRunStart, pointRunEnd, pointRecord})
	f := plannedFault{kind: hostFreezeLong, lasts: 70*time.Minute + time.Duration(r.IntN(600))*time.Second}
	p.triggers = append(p.triggers, &trigger{at: at, nth: r.IntN(3), target: "h0", fault: f})
}

// lasting draws how long something lasts: short, about as long as a connection survives, or longer than a host's lease.
func lasting(r *rand.Rand) time.Duration {
	most := pick(r, []time.Duration{500 * time.Millisecond, 4 * time.Second, 8 * time.Second, 16 * time.Second})
	return time.Duration(r.Int64N(int64(most)))
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func (p *plan) addClients(r *rand.Rand) {
	sessions := []string{"alice", "bob", "carol", "dave"}[:1+r.IntN(4)]
	var all []op
	clients, most := 1+r.IntN(3), 8
	switch {
	case p.inTurn:
		clients, most = 1, 20
	case p.tenants:
		clients = 2 + r.IntN(3)
	}
	for c := range clients {
		var ops []op
		for n := range 5 + r.IntN(most) {
			o := p.draw(r, c, n, sessions, all)
			if p.tenants && o.session == "" && o.job != "" && !o.repeat {
				o.job = o.work.X // the history distinguishes jobs without session by their ids alone
			}
			ops, all = append(ops, o), append(all, o)
		}
		p.clients = append(p.clients, ops)
	}
	p.addBatches(r, sessions)
}

func (p *plan) draw(r *rand.Rand, client, n int, sessions []string, before []op) op {
	x := fmt.Sprintf("c%d-%d", client, n)
	o := op{session: pick(r, sessions), lane: jobs.LaneInteractive, polls: n%4 == 3, command: "append", job: x, work: work{X: x, MS: r.IntN(400)}, options: map[string]any{},
		msgpack: r.IntN(2) == 0, awaits: r.IntN(3) > 0, reply: r.IntN(2) == 0, think: time.Duration(r.IntN(1500)) * time.Millisecond}
	if p.tenants { // two clients of different tenants have the same ids
		o.tenant, o.job = tenants[client%len(tenants)], fmt.Sprintf("c%d-%d", client/len(tenants), n)
	}
	if r.IntN(3) == 0 {
		o.endpoint = endpointCall
	}
	if r.IntN(8) == 0 {
		o.job = ""
	}
	if r.IntN(4) == 0 { // a burst
		o.think, o.awaits = 0, false
	}
	if r.IntN(12) == 0 {
		o.session = ""
	} else if r.IntN(15) == 0 {
		o.command = "cleanup_session"
	}
	switch r.IntN(10) {
	case 0:
		o.work.Fail = 1 + r.IntN(3)
	case 1:
		o.work.Die = 1 + r.IntN(2)
	case 2:
		o.work.Bad = true
	case 3:
		if r.IntN(3) == 0 {
			o.work.Pad = r.IntN(maxPayload / 2) // half fit as an outcome, the others as an object, and few as a state
		}
	case 4:
		o.work.MS = 1500
		o.options["timeout"] = 1000
	}
	if r.IntN(2) == 0 {
		o.options["max_retries"] = r.IntN(4)
		if r.IntN(2) == 0 {
			o.options["backoff"] = []int{50 + r.IntN(500), 2000}
		}
	}
	if o.job != "" && r.IntN(10) == 0 {
		o.cancel = time.Duration(r.IntN(1500)) * time.Millisecond
	}
	if r.IntN(12) == 0 {
		o.options["deadline"] = 500 + r.IntN(8000)
	}
	if p.mood != nil {
		p.mood.tunes(r, &o)
	}
	if len(before) > 0 && r.IntN(8) == 0 && !p.gentle {
		old := pick(r, before[len(before)-min(len(before), 1+r.IntN(12)):])
		if old.job != "" && old.session != "" {
			o.repeat, o.job, o.tenant, o.session, o.command, o.work, o.options = true, old.job, old.tenant, old.session, old.command, old.work, old.options
			if r.IntN(4) == 0 {
				o.work.X += "-other" // another payload: a conflict
			}
			if o.options["deadline"] == nil && r.IntN(3) == 0 {
				o.due = time.Duration(200+r.IntN(1500)) * time.Millisecond
			}
		}
	}
	often := 8
	if p.uploads {
		often = 2
	}
	o.uploads = o.job != "" && o.command == "append" && r.IntN(often) == 0
	return o
}
