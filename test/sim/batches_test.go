package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// batchPlan is one batch and what its client does with it.
type batchPlan struct {
	tenant, id  string
	starts      time.Duration
	jobs        []op
	cut         int // jobs of an upload
	concurrency int
	cancel      time.Duration // after it was submitted, it is cancelled; 0: never
	early       bool          // it is submitted once before the last jobs are there
	erased      bool          // when its results are read
}

// batchesUnderFire is the scenario.
const batchesUnderFire = "batches"

// batching plans have batches among their jobs. Some lose a store while they run.
func batching(r *rand.Rand, p *plan) {
	p.batching = true
	if r.IntN(4) == 0 {
		p.addTimed(r, pick(r, []faultKind{jobsLost, anonymousLost, resultsLost, batchesFull}))
	}
}

// addBatchPoint strikes whoever comes to a point that only the leader of a batch does.
func (p *plan) addBatchPoint(r *rand.Rand, at point, after bool) {
	p.addTrigger(r, at, after, pick(r, dispatcherFaults), "")
	p.batching = true
}

// cancelLate has a batch cancelled while the leader that publishes it stands still: what it has sent arrives when another one has ended them.
func (p *plan) cancelLate(r *rand.Rand) {
	f := plannedFault{kind: dispatchFreeze, lasts: 11*time.Second + time.Duration(r.IntN(7000))*time.Millisecond}
	p.triggers = append(p.triggers, &trigger{at: pointFeed, nth: r.IntN(4), fault: f})
	p.batching, p.cancelling, p.dispatchers = true, true, 2
}

func (p *plan) addBatches(r *rand.Rand, sessions []string) {
	if !p.batching || p.gentle {
		return
	}
	for n := range 1 + r.IntN(2) {
		b := batchPlan{id: fmt.Sprint("b", n), starts: time.Duration(500+r.IntN(9000)) * time.Millisecond, cut: 1 + r.IntN(4), concurrency: 1 + r.IntN(12),
			early: r.IntN(4) == 0, erased: r.IntN(3) == 0}
		if p.tenants {
			b.tenant, b.id = tenants[n%len(tenants)], "b"
		}
		if p.cancelling || r.IntN(3) == 0 {
			b.cancel = time.Duration(1+r.IntN(6000)) * time.Millisecond
		}
		for i := range 4 + r.IntN(36) {
			b.jobs = append(b.jobs, drawLine(r, n, i, sessions))
		}
		p.batches = append(p.batches, b)
	}
}

func drawLine(r *rand.Rand, batch, i int, sessions []string) op {
	x := fmt.Sprintf("b%d-%d", batch, i)
	o := op{session: pick(r, append([]string{"", "", "rows"}, sessions...)), command: "append", job: x, work: work{X: x, MS: r.IntN(300)}, options: map[string]any{}}
	switch r.IntN(16) {
	case 0:
		o.work.Fail = 1 + r.IntN(3)
	case 1:
		o.work.Die = 1
	case 2:
		o.options["deadline"] = 500 + r.IntN(5000)
	case 3:
		o.options["timeout"] = "soon" // not allowed
	}
	return o
}

func (o op) line() map[string]any {
	m := map[string]any{"id": o.job, "command": o.command, "options": o.options, "args": map[string]any{"x": o.work.X, "ms": o.work.MS, "fail": o.work.Fail, "die": o.work.Die}}
	if o.session != "" {
		m["session"] = o.session
	}
	return m
}

// name of a batch in the history.
func (b batchPlan) name() string {
	if b.tenant == "" {
		return jobs.DefaultTenant + "/" + b.id
	}
	return b.tenant + "/" + b.id
}

func (w *world) startBatches() []*client {
	var list []*client
	for n, b := range w.plan.batches {
		c := &client{p: w.process(fmt.Sprintf("batch%d.1", n)), done: make(chan struct{}), waiting: map[int]string{}}
		c.p.client = true
		list = append(list, c)
		w.wg.Go(func() {
			defer close(c.done)
			if err := c.p.connect(); err != nil {
				w.broken = err
				return
			}
			defer c.p.nc.Close()
			c.note(0, "batch "+b.name())
			if c.sleep(b.starts) && c.submitBatch(b) {
				c.followBatch(b)
			}
			c.note(0, "")
		})
	}
	return list
}

// batchAnswer is an answer of contract/batch.md as far as the client looks at it.
type batchAnswer struct {
	Result struct {
		Phase    string        `msgpack:"phase"`
		Jobs     int           `msgpack:"jobs"`
		Received int           `msgpack:"received"`
		Again    bool          `msgpack:"again"`
		Cursor   string        `msgpack:"cursor"`
		Results  []batchResult `msgpack:"results"`
	} `msgpack:"result"`
	Error struct {
		Code      string `msgpack:"code"`
		Message   string `msgpack:"message"`
		Retryable bool   `msgpack:"retryable"`
	} `msgpack:"error"`
}

type batchResult struct {
	Index   int      `msgpack:"index"`
	ID      string   `msgpack:"id"`
	Session string   `msgpack:"session"`
	Job     string   `msgpack:"job"`
	Outcome string   `msgpack:"outcome"`
	Reply   wire.Raw `msgpack:"reply"`
}

func (c *client) batchEvent(k kind, b batchPlan, text string) {
	c.p.world.history.add(event{kind: k, who: c.p.name, label: b.name(), text: text})
}

// askBatch repeats a request until it is answered for good; false: the client ends, or the store of batches was lost.
func (c *client) askBatch(b batchPlan, subject string, body map[string]any) (a batchAnswer, ok bool) {
	body["batch"] = b.id
	data, err := wire.Encode(body)
	if err != nil {
		panic(err) // text and numbers always encode
	}
	for pause := again; ; pause = min(2*pause, 10*time.Second) {
		m := nats.NewMsg(op{tenant: b.tenant}.request(subject))
		m.Data = data
		m.Header.Set(jobs.HeaderContentType, jobs.MsgPack)
		m, err := c.p.nc.RequestMsg(m, replyWait)
		a = batchAnswer{}
		if err == nil {
			err = wire.Decode(m.Data, &a)
		}
		if err == nil && !a.Error.Retryable {
			return a, a.Error.Code == "" || !c.p.world.history.struck(batchesLost)
		}
		c.batchEvent(unclear, b, fmt.Sprint(subject, " ", err, a.Error.Code))
		if !c.sleep(pause) {
			return a, false
		}
	}
}

// wrong notes an answer that contradicts the contract.
func (c *client) wrong(b batchPlan, format string, args ...any) bool {
	if !c.p.world.history.struck(batchesLost) {
		c.batchEvent(final, b, "batch "+b.name()+": "+fmt.Sprintf(format, args...))
	}
	return false
}

// submitBatch uploads a batch and submits it; false: there is none.
func (c *client) submitBatch(b batchPlan) bool {
	for from := 0; from < len(b.jobs); from += b.cut {
		if b.early && from > 0 && from+b.cut >= len(b.jobs) {
			if a, ok := c.askBatch(b, contract.RPCBatchesSubmit, map[string]any{"jobs": len(b.jobs)}); !ok || a.Error.Code != jobs.CodeBadRequest {
				return ok && c.wrong(b, "it is taken before its jobs are there: %s %s", a.Result.Phase, a.Error.Code)
			}
		}
		a, ok := c.askBatch(b, contract.RPCBatchesUpload, b.upload(from))
		if !ok {
			return false
		}
		if want := min(from+b.cut, len(b.jobs)); a.Error.Code != "" || a.Result.Received != want {
			return c.wrong(b, "upload from %d: %s %s, received %d, want %d", from, a.Error.Code, a.Error.Message, a.Result.Received, want)
		}
	}
	a, ok := c.askBatch(b, contract.RPCBatchesSubmit, map[string]any{"jobs": len(b.jobs), "concurrency": b.concurrency, "keep_ms": 3_600_000 * 24})
	if !ok {
		return false
	}
	if a.Error.Code != "" {
		return c.wrong(b, "it is refused: %s %s", a.Error.Code, a.Error.Message)
	}
	c.batchEvent(taken, b, fmt.Sprint(len(b.jobs), " jobs"))
	return true
}

func (b batchPlan) upload(from int) map[string]any {
	var list []any
	for _, o := range b.jobs[from:min(from+b.cut, len(b.jobs))] {
		list = append(list, o.line())
	}
	return map[string]any{"from": from, "jobs": list, "skip_invalid": true}
}

// followBatch waits for the end of a batch, reads its results, and requests what must be refused.
func (c *client) followBatch(b batchPlan) {
	if b.cancel > 0 && c.sleep(b.cancel) {
		c.batchEvent(cancels, b, "")
		if _, ok := c.askBatch(b, contract.RPCBatchesCancel, map[string]any{}); !ok {
			return
		}
	}
	for {
		a, ok := c.askBatch(b, contract.RPCBatchesGet, map[string]any{"wait_ms": 5000})
		switch {
		case !ok:
			return
		case a.Error.Code != "":
			c.wrong(b, "it is not known any more: %s", a.Error.Code)
			return
		}
		if a.Result.Phase == "ended" {
			break
		}
		if !c.sleep(again) {
			return
		}
	}
	if !c.readBatch(b) || !c.repeatBatch(b) || !b.erased {
		return
	}
	if a, ok := c.askBatch(b, contract.RPCBatchesErase, map[string]any{}); ok && a.Error.Code != "" && a.Error.Code != jobs.CodeBatchUnknown { // at a second request it may be gone
		c.wrong(b, "it is not erased: %s", a.Error.Code)
	}
}

// readBatch reads all results, some at a time.
func (c *client) readBatch(b batchPlan) bool {
	var all []batchResult
	for cursor := ""; ; {
		body := map[string]any{"limit": 7}
		if cursor != "" {
			body["cursor"] = cursor
		}
		a, ok := c.askBatch(b, contract.RPCBatchesResults, body)
		if !ok {
			return false
		}
		if a.Error.Code != "" {
			return c.wrong(b, "its results are refused: %s", a.Error.Code)
		}
		all = append(all, a.Result.Results...)
		if cursor = a.Result.Cursor; cursor == "" {
			break
		}
	}
	if len(all) != len(b.jobs) {
		return c.wrong(b, "%d results of %d jobs", len(all), len(b.jobs))
	}
	for i, r := range all {
		o := b.jobs[i]
		if r.Index != i || r.ID != o.job || r.Session != o.session {
			return c.wrong(b, "result %d is %d, %s, of session %q", i, r.Index, r.ID, r.Session)
		}
		o.tenant = b.tenant
		c.p.world.history.add(event{kind: pageRead, who: c.p.name, label: b.name(), session: o.ref().name(), job: r.Job, text: r.Outcome, body: string(r.Reply), seq: uint64(i)})
	}
	return true
}

// repeatBatch submits a batch that has ended once more, and another one under its id.
func (c *client) repeatBatch(b batchPlan) bool {
	if a, ok := c.askBatch(b, contract.RPCBatchesSubmit, map[string]any{"jobs": len(b.jobs)}); !ok || !a.Result.Again {
		return ok && c.wrong(b, "submitted twice it is %s %s, not the same one", a.Result.Phase, a.Error.Code)
	}
	other := b
	other.jobs = slices.Clone(b.jobs)
	other.jobs[0].job += "-other"
	if a, ok := c.askBatch(b, contract.RPCBatchesUpload, other.upload(0)); !ok || a.Error.Code != jobs.CodeConflict {
		return ok && c.wrong(b, "other jobs under its id are taken: %s", a.Error.Code)
	}
	return true
}

// strays are keys of batches whose record is gone.
func (p *tap) strays(keys map[string]uint64, present map[string]bool) (left []string) {
	for subject := range keys {
		token := strings.Split(subject, ".") // $KV.<bucket>.i.<tenant>.<key>.<first>
		if len(token) > 4 && token[2] != "b" && !present[token[4]] {
			left = append(left, subject)
		}
	}
	return left
}
