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

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/test/bench/agent"
	"github.com/dspex/dspex/test/bench/procs"
)

// What is required of a broker with accounts, against one without.
const (
	callsBehind     = 0.7 // rate of calls
	publishesBehind = 0.5 // rate of published jobs
	memoryGrowth    = 1.1 // of the broker, over the calls
	accountBatch    = 20_000
	accountCalls    = 1_000_000
	accountChunk    = 100_000
	longCall        = 10 * time.Minute
)

// accountPassword is that of every user: nobody else reaches the broker of a bench.
const accountPassword = "p-of-the-bench-and-of-nobody-else"

// walledRig is the product behind the shipped configuration, and a client in an account of its own.
func walledRig(ctx context.Context, o *options) (g *rig, err error) {
	for _, user := range []string{"DISPATCHER", "HOST", "CLIENT", "OPERATOR", "BACKUP"} {
		if err := os.Setenv("DSPEX_"+user+"_PASSWORD", accountPassword); err != nil {
			return nil, err
		}
	}
	if err := os.Setenv("NATS_PASSWORD", accountPassword); err != nil {
		return nil, err
	}
	defer func() { _ = os.Unsetenv("NATS_PASSWORD") }()
	if g, err = newRig(ctx, o, "walled", o.config); err != nil {
		return nil, err
	}
	as := func(user string) []string {
		return []string{"--server", g.url, "--name", "bench", "--user", user, "--inbox-prefix", "_INBOX." + user}
	}
	host, err := start(o, -1, "walled-host", append([]string{filepath.Join(o.bin, "worker-host"), "--engine", "stub", "--python", o.python,
		"--workers", "2", "--slots", strconv.Itoa(slots)}, as("host")...)...)
	if err == nil {
		g.others = append(g.others, host)
		_, err = g.add(ctx, "dispatcher", append([]string{filepath.Join(o.bin, "dispatcher"), "--accounts"}, as("dispatcher")...)...)
	}
	if err == nil {
		g.agent, err = g.add(ctx, "client", o.self, "role", "client", "-server", g.clientURL(), "-inbox", "_INBOX.client")
	}
	if err != nil {
		g.stop()
	}
	return g, err
}

func (g *rig) clientURL() string {
	return strings.Replace(g.url, "nats://", "nats://client:"+accountPassword+"@", 1)
}

// cancelled makes a call that waits and is cancelled at once. No one receives its answers. A cancellation that overtakes its call finds no
// job, and the next call of the session waits for the two seconds.
func (c *client) cancelled(session, job string) error {
	m := &nats.Msg{Subject: jobs.RPCSession + session, Reply: c.nc.NewInbox(), Data: []byte(`{"command":"sleep","args":{"ms":2000}}`), Header: nats.Header{jobs.HeaderJob: {job}}}
	if err := c.nc.PublishMsg(m); err != nil {
		return err
	}
	ask, err := json.Marshal(map[string]string{"session": session, "job": job})
	if err != nil {
		return err
	}
	return c.nc.PublishRequest(jobs.RPCJobsCancel, c.nc.NewInbox(), ask)
}

// measureAccounts compares a client in an account of its own with one inside, and looks at the broker's memory over many calls. A
// call of ten minutes runs meanwhile.
func measureAccounts(ctx context.Context, o *options, r *report) error {
	plain, _, err := wholeRig(ctx, o, 2, slots, "--engine", "stub", "--python", o.python)
	if err != nil {
		return err
	}
	walled, err := walledRig(ctx, o)
	if err != nil {
		plain.stop()
		return err
	}
	defer walled.stop()
	err = accountCosts(ctx, o, r, plain, walled)
	plain.stop()
	if err != nil {
		return err
	}
	long := make(chan error, 1)
	go func() { long <- walled.callLong(ctx) }()
	if err := accountMemory(ctx, r, walled); err != nil {
		return err
	}
	fmt.Printf("waiting for the end of a call of %v\n", longCall)
	if err := <-long; err != nil {
		return fmt.Errorf("a call of %v: %w", longCall, err)
	}
	fmt.Printf("a call of %v was answered\n", longCall)
	return nil
}

func accountCosts(ctx context.Context, o *options, r *report, plain, walled *rig) error {
	rigs := []*rig{plain, walled}
	calls, batches := map[*rig][]sample{}, map[*rig][]sample{}
	var callRatios, batchRatios []float64
	for _, g := range rigs {
		if _, err := g.agent.ask(ctx, order{Do: "call", Window: loadWindow, Count: agent.Sessions}); err != nil {
			return err
		}
	}
	for range o.rounds {
		for _, g := range rigs {
			s, err := measure(ctx, g.agent, order{Do: "call", Window: loadWindow, Seconds: o.slice.Seconds()}, g.all()...)
			if err != nil {
				return err
			}
			b, err := measure(ctx, g.agent, order{Do: "batch", Window: batchWindow, Count: accountBatch}, g.all()...)
			if err != nil {
				return err
			}
			calls[g], batches[g] = append(calls[g], s), append(batches[g], b)
		}
		last := len(calls[plain]) - 1
		callRatios = append(callRatios, calls[walled][last].Rate()/calls[plain][last].Rate())
		batchRatios = append(batchRatios, batches[walled][last].Rate()/batches[plain][last].Rate())
	}
	r.head("accounts: a client inside, and one in an account of its own", "", "1/s", "p50 us", "p99 us", "CPU us", "spread", "idle", "others")
	for _, g := range rigs {
		r.line(append([]string{g.name + ", calls, 64 in flight"}, cells(r, "accounts", g.name+" calls", calls[g])...)...)
		r.line(append([]string{g.name + ", 20,000 published jobs"}, cells(r, "accounts", g.name+" jobs", batches[g])...)...)
	}
	r.tail()
	r.head("accounts: asked of it", "figure", "asked", "median", "spread", "")
	r.line(append([]string{"rate of calls, behind / inside"}, r.judge("accounts", "rate of calls, behind / inside", "", ">=", callsBehind, callRatios)...)...)
	r.line(append([]string{"rate of published jobs, behind / inside"}, r.judge("accounts", "rate of published jobs, behind / inside", "", ">=", publishesBehind, batchRatios)...)...)
	r.tail()
	return nil
}

// accountMemory looks at the broker's memory while calls end in every way. Their outcomes, which are kept for 15 minutes, are removed as
// they come: what is left beside them is what is looked for.
func accountMemory(ctx context.Context, r *report, g *rig) error {
	nc, err := nats.Connect(strings.Replace(g.url, "nats://", "nats://dispatcher:"+accountPassword+"@", 1), nats.CustomInboxPrefix("_INBOX.dispatcher"))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	results, err := js.Stream(ctx, stream.ResultsStream)
	if err != nil {
		return err
	}
	r.head("accounts: the broker's memory over calls that are answered, refused, cancelled and left", "calls", "MB")
	var first, last float64
	for done := 0; done < accountCalls; done += accountChunk {
		for range 4 { // each within the time of an order
			if _, err := g.agent.ask(ctx, order{Do: "mixed", Window: loadWindow, Count: accountChunk / 4}); err != nil {
				return err
			}
			if err := results.Purge(ctx); err != nil {
				return err
			}
		}
		last, _ = procs.Memory([]int{g.broker.cmd.Process.Pid})
		if done == 0 {
			first = last
		}
		r.line(strconv.Itoa(done+accountChunk), number(last))
		r.tail()
	}
	r.head("", "figure", "asked", "median", "spread", "")
	r.line(append([]string{"memory after a million calls / after 100,000"}, r.judge("accounts", "memory after a million calls / after 100,000", "", "<=", memoryGrowth, []float64{last / first})...)...)
	r.tail()
	return nil
}

// callLong makes one long call from the client's account.
func (g *rig) callLong(ctx context.Context) error {
	nc, err := nats.Connect(g.clientURL(), nats.CustomInboxPrefix("_INBOX.client"))
	if err != nil {
		return err
	}
	defer nc.Close()
	bounded, cancel := context.WithTimeout(ctx, longCall+time.Minute)
	defer cancel()
	body := fmt.Appendf(nil, `{"command":"sleep","args":{"ms":%d},"options":{"timeout":"15m"}}`, longCall.Milliseconds())
	m, err := nc.RequestWithContext(bounded, jobs.RPCSession+"long", body)
	if err != nil {
		return err
	}
	if !strings.Contains(string(m.Data), `"ok":true`) {
		return fmt.Errorf("%s", m.Data)
	}
	return nil
}
