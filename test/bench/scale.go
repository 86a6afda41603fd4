//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Bounds that are asked for.
const (
	manySessions = 100_000
	manyJobs     = 100_000
	brokerMost   = 150.0 // MB
	processMost  = 128.0 // MB: dispatcher, and host without its workers
	restartMost  = 2.0   // s
)

// scaleRig is a deployment that knows 100,000 sessions.
type scaleRig struct {
	*rig
	host, dispatcher *process
	nc               *nats.Conn
}

func newScaleRig(ctx context.Context, o *options, slots int) (s *scaleRig, err error) {
	s = &scaleRig{}
	if s.rig, s.host, err = wholeRig(ctx, o, 1, slots, "--engine", "stub", "--python", o.python); err != nil {
		return nil, err
	}
	s.dispatcher = s.others[1]
	s.nc, err = nats.Connect(s.url, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectBufSize(-1))
	if err == nil {
		_, err = s.agent.ask(ctx, order{Do: "call", Window: 256, Count: manySessions, Fresh: "scale_", Body: storingBody})
	}
	if err != nil {
		s.rig.stop()
	}
	return s, err
}

func (s *scaleRig) close() { s.nc.Close(); s.stop() }

// storingBody makes each session keep a state.
const storingBody = `{"command": "append", "args": {"x": "0123456789"}}`

// memory is the resident memory of a process in MB.
func (p *process) memory() float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	return kb / 1024
}

// measureScale looks at the memory of a deployment with 100,000 sessions, also while 100,000 jobs of 10 KB wait.
func measureScale(ctx context.Context, o *options, r *report) error {
	s, err := newScaleRig(ctx, o, 1)
	if err != nil {
		return err
	}
	defer s.close()
	idle := s.settled()
	if err := s.pile(ctx); err != nil {
		return err
	}
	full := s.settled()
	names, most := []string{"broker", "dispatcher", "host without workers"}, []float64{brokerMost, processMost, processMost}
	r.head("scale: resident MB with 100,000 sessions", "process", "asked", "idle", "100,000 jobs of 10 KB waiting")
	for i, name := range names {
		r.line(name, fmt.Sprintf("<= %g", most[i]), number(idle[i]), number(full[i]))
		r.judge("scale", name+", idle", "MB", "<=", most[i], []float64{idle[i]})
		r.judge("scale", name+", jobs waiting", "MB", "<=", most[i], []float64{full[i]})
	}
	r.tail()
	return nil
}

// settlePause is how long freed memory may take to go back to the system: Go's scavenger takes its time.
const settlePause = 60 * time.Second

// settled is the least memory of broker, dispatcher and host within a while: what a burst left behind does not count.
func (s *scaleRig) settled() []float64 {
	least := []float64{1e9, 1e9, 1e9}
	for end := time.Now().Add(settlePause); time.Now().Before(end); {
		for i, p := range []*process{s.broker, s.dispatcher, s.host} {
			least[i] = min(least[i], p.memory())
		}
		<-time.After(time.Second)
	}
	return least
}

// pile publishes jobs behind one that keeps the only slot, and waits until the host has been offered them.
func (s *scaleRig) pile(ctx context.Context) error {
	js, err := jetstream.New(s.nc, jetstream.WithPublishAsyncMaxPending(batchWindow))
	if err != nil {
		return err
	}
	if _, err := js.Publish(ctx, "dspex.session.blocker", []byte(`{"command": "sleep", "args": {"ms": 600000}, "options": {"timeout": "20m"}}`)); err != nil {
		return err
	}
	body := []byte(`{"command": "echo", "args": {"text": "` + argument(10<<10) + `"}}`)
	for n := range manyJobs {
		if _, err := js.PublishAsync(fmt.Sprintf("dspex.session.scale_%d", n), body, jetstream.WithStallWait(orderTimeout)); err != nil {
			return err
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(orderTimeout):
		return fmt.Errorf("the jobs were not accepted within %v", orderTimeout)
	}
	return s.delivered(ctx, js)
}

// delivered waits until no job waits for its delivery.
func (s *scaleRig) delivered(ctx context.Context, js jetstream.JetStream) error {
	st, err := js.Stream(ctx, "DSPEX_JOBS")
	if err != nil {
		return err
	}
	for end := time.Now().Add(orderTimeout); time.Now().Before(end); {
		pending := uint64(0)
		list := st.ListConsumers(ctx)
		for c := range list.Info() {
			pending += c.NumPending
		}
		if list.Err() == nil && pending == 0 {
			return nil
		}
		<-time.After(200 * time.Millisecond)
	}
	return fmt.Errorf("the jobs were not delivered within %v", orderTimeout)
}

// measureRestart kills the broker and starts it again.
func measureRestart(ctx context.Context, o *options, r *report) error {
	s, err := newScaleRig(ctx, o, 64)
	if err != nil {
		return err
	}
	defer s.close()
	var took, down []float64
	for n := range o.faults {
		at := time.Now()
		if err := s.again(ctx); err != nil {
			return err
		}
		up := time.Now()
		if err := s.firstJob(ctx, fmt.Sprintf("dspex.rpc.session.scale_%d", n)); err != nil {
			return err
		}
		down, took = append(down, up.Sub(at).Seconds()), append(took, time.Since(at).Seconds())
	}
	r.head(fmt.Sprintf("restart: the broker killed %d times with %d sessions; seconds from the kill", o.faults, manySessions), "figure", "p50", "p99", "most")
	for _, row := range []struct {
		name string
		v    []float64
	}{{"broker listens", down}, {"first job done", took}} {
		r.line(row.name, number(r.keep("restart", row.name, "s", row.v)), number(quantile(row.v, 0.99)), number(quantile(row.v, 1)))
	}
	r.tail()
	r.judge("restart", "first job done, p99", "s", "<=", restartMost, []float64{quantile(took, 0.99)})
	return nil
}

// again kills the broker and starts it on the same address and data.
func (s *scaleRig) again(ctx context.Context) (err error) {
	_ = s.broker.cmd.Process.Kill()
	<-s.broker.ended
	argv := append(append([]string{}, s.broker.cmd.Args...), "-listen", strings.TrimPrefix(s.url, "nats://"))
	if s.broker, err = start(s.o, -1, filepath.Base(s.broker.name), argv...); err != nil {
		return err
	}
	_, err = s.broker.await(ctx, s.broker.lines, "ready ")
	return err
}

// firstJob calls until somebody answers.
func (s *scaleRig) firstJob(ctx context.Context, subject string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	for ctx.Err() == nil {
		m, err := s.nc.RequestWithContext(ctx, subject, callBody)
		if err == nil && failure(m) == nil {
			return nil
		}
		<-time.After(10 * time.Millisecond)
	}
	return fmt.Errorf("no answer within %v", probeTimeout)
}

// Bounds of the part bulk.
const (
	submitLeast  = 0.5   // of the rate of raw publishes
	bulkBeside   = 1.5   // p99 of calls beside a batch, of that alone
	bulkMost     = 200.0 // MB: client, dispatcher, host without its workers
	bulkBroker   = 250.0 // MB at the first size
	outcomeMost  = 600.0 // bytes of the broker for each further outcome
	bulkSessions = 1000
	rawJobs      = 20_000
	bulkSettle   = 30 * time.Second
	bulkCalls    = 1500
)

// bulk is one batch of the part: what it took, and the most memory that each process had.
type bulk struct {
	submit, run float64 // jobs a second
	p99         float64 // of calls beside it, us
	most        map[string]float64
	kept        float64 // MB of the broker when it has settled
}

// measureBulk submits a file by the command line, and then one of three times as many jobs.
func measureBulk(ctx context.Context, o *options, r *report) error {
	g, _, err := wholeRig(ctx, o, 2, 16, "--engine", "stub", "--python", o.python)
	if err != nil {
		return err
	}
	defer g.stop()
	nc, err := nats.Connect(g.url)
	if err != nil {
		return err
	}
	defer nc.Close()
	raw, err := rawPublishes(ctx, nc)
	if err != nil {
		return err
	}
	alone, err := callsUntil(ctx, nc, nil)
	if err != nil {
		return err
	}
	var all []bulk
	for n, size := range []int{o.bulk, 3 * o.bulk} {
		b, err := g.bulk(ctx, nc, fmt.Sprint("bulk-", n), size)
		if err != nil {
			return err
		}
		all = append(all, b)
	}
	r.head(fmt.Sprintf("bulk: %d jobs, then %d more; raw publishes %s a second", o.bulk, 3*o.bulk, number(raw)), "figure", "first", "second")
	r.line("submitted a second", number(all[0].submit), number(all[1].submit))
	r.line("jobs a second", number(r.keep("bulk", "jobs a second", "1/s", []float64{all[0].run})), number(all[1].run))
	r.line("p99 of calls beside it, us ("+number(alone)+" alone)", number(all[0].p99), number(all[1].p99))
	for _, name := range []string{"client", "dispatcher", "host", "broker"} {
		r.line("most MB, "+name, number(all[0].most[name]), number(all[1].most[name]))
	}
	r.line("MB of the broker, settled", number(all[0].kept), number(all[1].kept))
	r.judge("bulk", "submit / raw publishes", "", ">=", submitLeast, []float64{all[0].submit / raw})
	r.judge("bulk", "p99 of calls beside / alone", "", "<=", bulkBeside, []float64{all[0].p99 / alone})
	for _, name := range []string{"client", "dispatcher", "host"} {
		r.judge("bulk", name+", first", "MB", "<=", bulkMost, []float64{all[0].most[name]})
		r.judge("bulk", name+", second", "MB", "<=", bulkMost, []float64{all[1].most[name]})
	}
	r.judge("bulk", "broker", "MB", "<=", bulkBroker, []float64{all[0].most["broker"]})
	more := (all[1].kept - all[0].kept) * (1 << 20) / float64(3*o.bulk)
	r.line(append([]string{"broker, bytes for each further outcome"}, r.judge("bulk", "broker, a further outcome", "B", "<=", outcomeMost, []float64{more})...)...)
	r.tail()
	return nil
}

// bulk runs one batch.
func (g *rig) bulk(ctx context.Context, nc *nats.Conn, id string, size int) (b bulk, err error) {
	file := filepath.Join(g.o.dir, id+".jsonl")
	if err := writeBulk(file, size); err != nil {
		return b, err
	}
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
	ask := fmt.Appendf(nil, `{"batch": %q}`, id)
	for over := false; !over; look() {
		select {
		case <-client.ended:
			over = true
		case <-time.After(100 * time.Millisecond):
		}
	}
	b.submit = float64(size) / time.Since(began).Seconds()
	var is struct {
		Result struct {
			Phase     string
			Submitted time.Time `json:"submitted_at"`
			Ended     time.Time `json:"ended_at"`
			Outcomes  struct{ Succeeded int }
		}
	}
	b.p99, err = callsUntil(ctx, nc, func() (bool, error) {
		look()
		m, err := nc.RequestWithContext(ctx, "dspex.rpc.batches.get", ask)
		if err == nil {
			err = json.Unmarshal(m.Data, &is)
		}
		return is.Result.Phase == "ended", err
	})
	if err == nil && is.Result.Outcomes.Succeeded != size {
		err = fmt.Errorf("%d of %d jobs have succeeded: %s", is.Result.Outcomes.Succeeded, size, client.tail())
	}
	b.kept = 1e9
	for range int(bulkSettle / time.Second) {
		b.kept = min(b.kept, g.broker.memory())
		<-time.After(time.Second)
	}
	b.run = float64(size) / is.Result.Ended.Sub(is.Result.Submitted).Seconds()
	return b, err
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
