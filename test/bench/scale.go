//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/test/bench/agent"
	"github.com/dspex/dspex/test/bench/prober"
)

// Bounds that are requested.
const (
	manySessions = 100_000
	manyJobs     = 100_000
	brokerMost   = 150.0 // MB
	processMost  = 128.0 // MB: dispatcher, and host without its workers
	restartMost  = 2.0   // s
)

// scaleRig is a deployment with 100,000 sessions.
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
	text, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	kb, _ := strconv.ParseFloat(text, 64) // a process that has just ended has none
	return kb / 1024
}

// measureScale looks at the memory of a deployment with 100,000 sessions, also while 100,000 jobs of 10 KB wait.
func measureScale(ctx context.Context, o *options, r *report) error {
	s, err := newScaleRig(ctx, o, 1)
	if err != nil {
		return err
	}
	defer s.close()
	idle := s.quiet()
	if err := s.pile(ctx); err != nil {
		return err
	}
	full := s.quiet()
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

// quietPause is how long freed memory may take to go back to the system: Go's scavenger takes its time.
const quietPause = 60 * time.Second

// quiet is the least memory of broker, dispatcher and host within a while: what a burst left behind does not count.
func (s *scaleRig) quiet() []float64 {
	least := []float64{1e9, 1e9, 1e9}
	for end := time.Now().Add(quietPause); time.Now().Before(end); {
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
	body := []byte(`{"command": "echo", "args": {"text": "` + agent.Argument(10<<10) + `"}}`)
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
	ctx, cancel := context.WithTimeout(ctx, prober.Timeout)
	defer cancel()
	for ctx.Err() == nil {
		m, err := s.nc.RequestWithContext(ctx, subject, agent.CallBody)
		if err == nil && failure(m) == nil {
			return nil
		}
		<-time.After(10 * time.Millisecond)
	}
	return fmt.Errorf("no answer within %v", prober.Timeout)
}
