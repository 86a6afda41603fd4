//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/batch"
	"github.com/dspex/dspex/test/bench/agent"
)

// Bounds of the part bulk.
const (
	submitLeast  = 0.5   // of the rate of raw publishes
	bulkBeside   = 1.5   // p99 of calls beside a batch, of that alone
	bulkMost     = 200.0 // MB: client, dispatcher, host without its workers
	bulkBroker   = 250.0 // MB at the first size
	outcomeMost  = 600.0 // bytes of the broker for each further outcome
	bulkTimes    = 4     // this many jobs as the first batch has the second one
	bulkWorkers  = 2
	bulkSlots    = 16
	bulkSessions = 1000
	rawJobs      = 20_000
	bulkPause    = 30 * time.Second
	bulkCalls    = 1500
	bulkMemory   = 200                    // MiB: GOMEMLIMIT of the broker. With that of few sessions its collector would use a third of what it uses
	bulkRun      = 100 * time.Millisecond // jobs beside which calls are timed
	bulkLasts    = 30 * time.Second       // about: they fill all slots as long
)

// bulk is one batch of the part: what it took, and the most memory that each process had.
type bulk struct {
	submit, run float64 // jobs a second
	cpu         sample  // of a job, all processes
	most        map[string]float64
	kept        float64 // MB of the broker when its compaction has ended
}

// measureBulk submits a file by the command line, and then a longer one.
func measureBulk(ctx context.Context, o *options, r *report) error {
	roomy := *o
	roomy.memory, o = bulkMemory, &roomy
	g, nc, err := stubRig(ctx, o, bulkWorkers, bulkSlots, "--overflow", "0", "--recycle-jobs", "0") // the CPU of a worker that has ended is not seen
	if err != nil {
		return err
	}
	defer g.stop()
	defer nc.Close()
	raw, err := rawPublishes(ctx, nc)
	if err != nil {
		return err
	}
	if err := g.callsBeside(ctx, nc, r); err != nil {
		return err
	}
	var all []bulk
	sizes := []int{o.bulk, bulkTimes * o.bulk}
	for n, size := range sizes {
		b, err := g.bulk(ctx, nc, fmt.Sprint("bulk-", n), size)
		if err != nil {
			return err
		}
		all = append(all, b)
	}
	plain, sum, err := bulkParts(ctx, o, r)
	if err != nil {
		return err
	}
	r.head(fmt.Sprintf("bulk: a batch of %d jobs, then one of %d; raw publishes %s a second", sizes[0], sizes[1], number(raw)), "figure", "first", "second")
	r.line("submitted a second", number(all[0].submit), number(all[1].submit))
	r.line("jobs a second", number(r.keep("bulk", "jobs a second", "1/s", []float64{all[0].run})), number(all[1].run))
	r.line("CPU us of a job (parts "+number(sum)+")", number(all[0].cpu.cpu), number(all[1].cpu.cpu))
	for _, name := range []string{"client", "dispatcher", "host", "broker"} {
		r.line("most MB, "+name, number(all[0].most[name]), number(all[1].most[name]))
	}
	r.line("MB of the broker, at rest", number(all[0].kept), number(all[1].kept))
	r.judge("bulk", "submit / raw publishes", "", ">=", submitLeast, []float64{all[0].submit / raw})
	r.judge("bulk", "CPU of a job / sum of the parts' CPU", "", "<=", mostOverParts, []float64{all[0].cpu.cpu / sum})
	r.line("CPU of a job / parts of any job", number(r.keep("bulk", "CPU of a job / sum of the parts of any job", "", []float64{all[0].cpu.cpu / plain})))
	for _, name := range []string{"client", "dispatcher", "host"} {
		r.judge("bulk", name+", first", "MB", "<=", bulkMost, []float64{all[0].most[name]})
		r.judge("bulk", name+", second", "MB", "<=", bulkMost, []float64{all[1].most[name]})
	}
	r.judge("bulk", "broker", "MB", "<=", bulkBroker, []float64{all[0].most["broker"]})
	more := (all[1].kept - all[0].kept) * (1 << 20) / float64(sizes[1])
	r.line(append([]string{"broker, bytes for each further outcome"}, r.judge("bulk", "broker, a further outcome", "B", "<=", outcomeMost, []float64{more})...)...)
	r.tail()
	whoUsed(r, "bulk, first batch", []sample{all[0].cpu})
	return nil
}

// bulkOwn are the parts that only jobs of batches have. The jobs are stored with the submission and read at their turn, and their results
// are kept. A chosen id is looked up, because it may have an outcome already.
var bulkOwn = []part{
	{"jobs stored, 128 together", "chunk", 1.0 / batch.MaxChunk}, {"jobs read, 128 together", "open", 1.0 / batch.MaxChunk},
	{"look at a chosen id", "look", 1}, {"results kept, 128 together", "keep", 1.0 / batch.MaxChunk},
}

// bulkParts is the cost of what a job of the batch is made of: of the parts of any job, and with those of batches. Only one in two has a
// session, and so a record.
func bulkParts(ctx context.Context, o *options, r *report) (any, all float64, err error) {
	b, err := newBench(ctx, o)
	if err != nil {
		return 0, 0, err
	}
	defer b.stop()
	t := &table{}
	for _, p := range costParts {
		if p.do == "head" || p.do == "record" {
			p.times = 0.5
		}
		t.parts = append(t.parts, p)
	}
	own := &table{parts: bulkOwn}
	var sums, with []float64
	for range o.rounds {
		sum, err := t.measure(ctx, b, loadWindow, o.slice.Seconds(), sample.cost)
		if err != nil {
			return 0, 0, err
		}
		more, err := own.measure(ctx, b, loadWindow, o.slice.Seconds(), sample.cost)
		if err != nil {
			return 0, 0, err
		}
		sums, with = append(sums, sum), append(with, sum+more)
	}
	t.parts, t.samples = append(t.parts, own.parts...), append(t.samples, own.samples...)
	t.print(r, "bulk")
	r.head("bulk: the sum of the parts, CPU us", "of any job", "of a job of a batch")
	any, all = r.keep("bulk", "sum of the parts of any job", "us", sums), r.keep("bulk", "sum of the parts", "us", with)
	r.line(number(any), number(all))
	r.tail()
	return any, all, nil
}

// callsBeside times calls alone, and beside a batch that fills all slots. Its jobs wait in them, so that the machine is far from busy.
func (g *rig) callsBeside(ctx context.Context, nc *nats.Conn, r *report) error {
	alone, err := callsUntil(ctx, nc, nil)
	if err != nil {
		return err
	}
	size := int(bulkWorkers * bulkSlots * bulkLasts / bulkRun)
	file := filepath.Join(g.o.dir, "waiting.jsonl")
	if err := writeBulk(file, size, `"sleep", "args": {"ms": `+strconv.FormatInt(bulkRun.Milliseconds(), 10)+`, "row": %d}`); err != nil {
		return err
	}
	client, err := start(g.o, -1, "whole-submit", filepath.Join(g.o.bin, "dspex"), "batch", "submit", file, "--id", "waiting", "--server", g.url)
	if err != nil {
		return err
	}
	<-client.ended
	<-time.After(time.Second) // it fills the slots
	var is batchState
	beside, err := callsUntil(ctx, nc, func() (bool, error) { return is.look(ctx, nc, "waiting") })
	if err == nil && is.Result.Outcomes.Succeeded != size {
		err = fmt.Errorf("%d of %d jobs have succeeded: %s", is.Result.Outcomes.Succeeded, size, client.tail())
	}
	if err != nil {
		return err
	}
	r.head(fmt.Sprintf("bulk: calls beside a batch of %d jobs that wait %v in their slots, %s of them a second", size, bulkRun, number(is.rate(size))),
		"calls", "p50 us", "p99 us", "p99 asked, against alone", "", "", "")
	r.line("alone", number(quantile(alone, 0.5)), number(quantile(alone, 0.99)))
	r.line(append([]string{"beside", number(quantile(beside, 0.5)), number(quantile(beside, 0.99))},
		r.judge("bulk", "p99 of calls beside / alone", "", "<=", bulkBeside, []float64{quantile(beside, 0.99) / quantile(alone, 0.99)})...)...)
	r.tail()
	return nil
}

// batchState is what a dispatcher answers about a batch.
type batchState struct {
	Result struct {
		Phase     string
		Submitted time.Time `json:"submitted_at"`
		Ended     time.Time `json:"ended_at"`
		Outcomes  struct{ Succeeded int }
	}
}

// look requests the state, and reports whether the batch has ended.
func (b *batchState) look(ctx context.Context, nc *nats.Conn, id string) (bool, error) {
	m, err := nc.RequestWithContext(ctx, "dspex.rpc.batches.get", fmt.Appendf(nil, `{"batch": %q}`, id))
	if err == nil {
		err = json.Unmarshal(m.Data, b)
	}
	return b.Result.Phase == "ended", err
}

// rate is the jobs a second, from the submission to the end.
func (b *batchState) rate(size int) float64 {
	return float64(size) / b.Result.Ended.Sub(b.Result.Submitted).Seconds()
}

// bulk runs one batch.
func (g *rig) bulk(ctx context.Context, nc *nats.Conn, id string, size int) (b bulk, err error) {
	file := filepath.Join(g.o.dir, id+".jsonl")
	if err := writeBulk(file, size, `"echo", "args": {"text": "row %d"}`); err != nil {
		return b, err
	}
	m := newMeter(g.all()...)
	began := time.Now()
	client, err := start(g.o, -1, "whole-submit", filepath.Join(g.o.bin, "dspex"), "batch", "submit", file, "--id", id, "--server", g.url)
	if err != nil {
		return b, err
	}
	b.most = map[string]float64{}
	look := func() {
		for name, p := range map[string]*process{"client": client, "dispatcher": g.others[1], "host": g.others[0], "broker": g.broker} {
			if m, alive := p.resident(); alive {
				b.most[name] = max(b.most[name], m)
			}
		}
	}
	for over := false; !over; look() {
		select {
		case <-client.ended:
			over = true
		case <-time.After(100 * time.Millisecond):
		}
	}
	b.submit = float64(size) / time.Since(began).Seconds()
	var is batchState
	for over := false; !over && err == nil; look() {
		<-time.After(100 * time.Millisecond)
		over, err = is.look(ctx, nc, id)
	}
	if err == nil && is.Result.Outcomes.Succeeded != size {
		err = fmt.Errorf("%d of %d jobs have succeeded: %s", is.Result.Outcomes.Succeeded, size, client.tail())
	}
	if err != nil {
		return b, err
	}
	used := client.cmd.ProcessState.UserTime() + client.cmd.ProcessState.SystemTime()
	b.cpu = m.read(answer{Count: size})
	b.cpu.by["submit"] = float64(used.Microseconds()) / float64(size)
	b.cpu.cpu += b.cpu.by["submit"]
	b.kept = 1e9
	for range int(bulkPause / time.Second) {
		b.kept = min(b.kept, g.broker.memory())
		<-time.After(time.Second)
	}
	b.run = is.rate(size)
	return b, nil
}

// resident is the memory of a process that may have ended.
func (p *process) resident() (mb float64, alive bool) {
	select {
	case <-p.ended:
		return 0, false
	default:
	}
	mb = p.memory()
	return mb, mb > 0
}

// writeBulk writes a file of jobs, every second one in a session. job is the command with its arguments, where the row's number goes.
func writeBulk(path string, size int, job string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	for n := range size {
		session := ""
		if n%2 == 0 {
			session = fmt.Sprintf(`"session": "bulk_%d", `, n/2%bulkSessions)
		}
		_, _ = fmt.Fprintf(w, `{%s"command": `+job+"}\n", session, n) // its error stays until Flush
	}
	return errors.Join(w.Flush(), f.Close())
}

// rawPublishes is how many jobs are accepted a second by asynchronous publishes alone.
func rawPublishes(ctx context.Context, nc *nats.Conn) (float64, error) {
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(batchWindow))
	if err != nil {
		return 0, err
	}
	began := time.Now()
	for n := range rawJobs {
		subject := "dspex.anonymous.batch"
		if n%2 == 0 {
			subject = fmt.Sprintf("dspex.session.bulk_%d", n/2%bulkSessions)
		}
		if _, err := js.PublishAsync(subject, fmt.Appendf(nil, `{"command": "echo", "args": {"text": "row %d"}}`, n), jetstream.WithStallWait(orderTimeout)); err != nil {
			return 0, err
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(orderTimeout):
		return 0, fmt.Errorf("the jobs were not accepted within %v", orderTimeout)
	}
	rate := rawJobs / time.Since(began).Seconds()
	for _, name := range []string{"DSPEX_JOBS", "DSPEX_ANON"} { // they run before anything else is measured
		for left := uint64(2); left > 1; { // an anchor may stay
			st, err := js.Stream(ctx, name)
			if err != nil {
				return 0, err
			}
			left = st.CachedInfo().State.Msgs
			<-time.After(100 * time.Millisecond)
		}
	}
	return rate, nil
}

// callsUntil calls one after the other until over reports it, or some times, and returns what each took in microseconds.
func callsUntil(ctx context.Context, nc *nats.Conn, over func() (bool, error)) (took []float64, err error) {
	for n := 0; ; n++ {
		if over == nil && n == bulkCalls {
			return took, nil
		}
		if over != nil && n%100 == 0 {
			if end, err := over(); end || err != nil {
				return took, err
			}
		}
		at := time.Now()
		m, err := nc.RequestWithContext(ctx, fmt.Sprintf("dspex.rpc.session.beside_%d", n%64), agent.CallBody)
		if err == nil {
			err = failure(m)
		}
		if err != nil {
			return nil, err
		}
		took = append(took, float64(time.Since(at).Nanoseconds())/1000)
		<-time.After(2 * time.Millisecond)
	}
}
