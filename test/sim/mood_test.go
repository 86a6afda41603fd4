package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// mood is what the clients of a plan have in common.
type mood struct {
	name  string
	sets  func(*rand.Rand, *plan) // before the plan is drawn to its end
	tunes func(*rand.Rand, *op)   // each thing that a client does
}

// pushing clients are operators who push a program and take it back, among jobs that may use it.
var pushing = &mood{"programs that an operator pushes", pushedUnderFire, pushesPrograms}

var moods = []*mood{
	{"clients with short deadlines", func(*rand.Rand, *plan) {}, shortDeadlines},
	{"cleaned up under fire", underFire, cleaning},
	{"clients that poll", lateLooks, polling},
	{"late retries", lateRetry, failing},
	{"jobs that wait for longer than sessions live", func(_ *rand.Rand, p *plan) { p.idle = 3 * time.Second }, waiting},
	{"deadlines while the broker's clock is set", clockSet, dueLater},
	{"two tenants with the same sessions and ids", func(_ *rand.Rand, p *plan) { p.tenants = true }, sameSessions},
	pushing,
	{"both lanes of one slot", func(_ *rand.Rand, p *plan) { p.hosts = []hostPlan{{name: "h0", workers: 1, slots: 1}} }, lanes},
}

// underFire strikes between the commit and the end of a job, again and again.
func underFire(r *rand.Rand, p *plan) {
	for range 4 {
		at := pick(r, []point{pointResult, pointReply, pointAck})
		p.addTrigger(r, at, r.IntN(2) == 0, pick(r, []faultKind{hostKill, hostKill, brokerKill, connReset}), pick(r, p.hosts).name)
	}
}

// lateLooks freezes the dispatcher between the looks that it takes to find a job.
func lateLooks(r *rand.Rand, p *plan) {
	p.dispatchers = 1
	for range 3 {
		f := plannedFault{kind: dispatchFreeze, lasts: time.Second + time.Duration(r.IntN(4000))*time.Millisecond, target: "d0"}
		p.triggers = append(p.triggers, &trigger{at: pointLook, after: true, nth: r.IntN(5), target: "d0", fault: f})
	}
}

func polling(r *rand.Rand, o *op) {
	o.endpoint, o.reply, o.polls = endpointPublish, false, true
	o.work.MS = 200 + r.IntN(800)
}

// lateRetry lets a host write a delay when its successor has read the attempt records of all sessions, and runs a job of one.
func lateRetry(r *rand.Rand, p *plan) {
	p.hosts = []hostPlan{{name: "h0", workers: 2, slots: 4}, {name: "h1", workers: 1, slots: 1, joins: 4 * time.Second}}
	f := plannedFault{kind: hostLate, lasts: 25 * time.Second, target: "h0"}
	p.triggers = append(p.triggers, &trigger{at: pointRunEnd, nth: r.IntN(8), target: "h0", fault: f})
}

func failing(r *rand.Rand, o *op) {
	o.awaits, o.think = false, time.Duration(r.IntN(500))*time.Millisecond
	if r.IntN(2) == 0 {
		o.work = work{X: o.work.X, MS: 100 + r.IntN(300), Fail: 1 + r.IntN(2)}
		o.options = map[string]any{"max_retries": 3, "backoff": []int{3000}}
	}
}

func cleaning(r *rand.Rand, o *op) {
	o.session, o.think = "alice", time.Duration(r.IntN(1000))*time.Millisecond
	if r.IntN(3) == 0 {
		o.command = "cleanup_session"
	}
}

// shortDeadlines are clients that send many jobs to one session at once, with short deadlines or cancellations, and clean up in between.
func shortDeadlines(r *rand.Rand, o *op) {
	o.session, o.awaits, o.think = "alice", false, time.Duration(r.IntN(200))*time.Millisecond
	if r.IntN(3) == 0 {
		o.job = ""
	}
	switch r.IntN(6) {
	case 0, 1:
		o.options["deadline"] = 200 + r.IntN(1500)
	case 2:
		if o.job != "" {
			o.cancel = time.Duration(1+r.IntN(900)) * time.Millisecond
		}
	case 3:
		o.command = "cleanup_session"
	}
}

// waiting clients leave jobs behind one that is repeated for longer than a session may be idle.
func waiting(r *rand.Rand, o *op) {
	o.session = "alice"
	if r.IntN(3) == 0 {
		o.work, o.options = work{X: o.work.X, MS: 200, Fail: 1}, map[string]any{"max_retries": 1, "backoff": []int{2000 + r.IntN(4000)}}
		o.awaits = false
	}
}

// clockSet sets the broker's clock again and again.
func clockSet(r *rand.Rand, p *plan) {
	for range 4 {
		p.addTimed(r, brokerClock)
	}
}

// dueLater has a queue of jobs with deadlines that none of them needs.
func dueLater(r *rand.Rand, o *op) {
	o.session, o.awaits, o.think, o.cancel = pick(r, []string{"alice", "bob"}), false, time.Duration(r.IntN(1500))*time.Millisecond, 0
	o.work, o.options = work{X: o.work.X, MS: 500 + r.IntN(1000)}, map[string]any{"deadline": 600_000}
}

// lanes has jobs without a session only.
func lanes(r *rand.Rand, o *op) {
	o.session, o.awaits, o.think = "", false, time.Duration(r.IntN(400))*time.Millisecond
	if r.IntN(2) == 0 {
		o.lane, o.endpoint = jobs.LaneBatch, endpointPublish
	}
}

// once has stored jobs that may start only once and have no reason of their own to fail.
func once(r *rand.Rand, o *op) {
	o.endpoint, o.command, o.options = endpointPublish, "append", map[string]any{"max_retries": 0}
	o.work, o.cancel, o.awaits = work{X: o.work.X, MS: 300 + r.IntN(1500)}, 0, r.IntN(2) == 0
}

// byModel has jobs that the language model fails, most of the time.
func byModel(r *rand.Rand, o *op) {
	o.command, o.awaits, o.cancel, o.think = "predict", true, 0, time.Duration(500+r.IntN(1000))*time.Millisecond
	o.work = work{X: o.work.X, MS: 50, Down: r.IntN(8) > 0}
	o.options = map[string]any{"max_retries": r.IntN(4), "backoff": []int{50}}
}

// crowding has jobs of many sessions at once, which may be retried.
func crowding(r *rand.Rand, o *op) {
	o.session, o.command, o.awaits, o.cancel, o.think = fmt.Sprint("s", r.IntN(20)), "append", false, 0, time.Duration(r.IntN(200))*time.Millisecond
	o.work, o.options = work{X: o.work.X, MS: 2000 + r.IntN(4000)}, map[string]any{}
}

// sameSessions has few sessions, so that those of both tenants have the same names. The history distinguishes jobs without session by
// their ids alone.
func sameSessions(r *rand.Rand, o *op) {
	switch {
	case o.session != "":
		o.session = pick(r, []string{"alice", "bob"})
	case o.job != "":
		o.job = o.work.X
	}
}
