//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// client loads the whole system, as a client of any language does.
type client struct {
	nc      *nats.Conn
	w       *stream.Writer
	replies *replies
	behind  bool // an account: replies to published jobs come by a subject that is imported
}

func playClient(url, inbox string) error {
	var options []nats.Option
	if inbox != "" {
		options = append(options, nats.CustomInboxPrefix(inbox))
	}
	nc, err := nats.Connect(url, options...)
	if err != nil {
		return err
	}
	defer nc.Close()
	c := &client{nc: nc, behind: inbox != ""}
	if c.w, err = stream.NewWriter(nc); err != nil {
		return err
	}
	defer c.w.Close()
	if c.replies, err = newReplies(nc, false); err != nil {
		return err
	}
	fmt.Println("ready")
	return obey(c.do)
}

func (c *client) do(o order) (answer, error) {
	switch o.Do {
	case "call":
		return window(o, c.call(o))
	case "batch":
		return c.batch(o)
	case "mixed":
		return window(o, c.mixed(o))
	}
	return answer{}, fmt.Errorf("unknown order %q", o.Do)
}

// call sends requests through the RPC endpoint, each to another session.
func (c *client) call(o order) operation {
	body := []byte(cmp.Or(o.Body, string(callBody)))
	return func(lane, n int, done func(error)) {
		id := session(n)
		if o.Fresh != "" {
			id = o.Fresh + strconv.Itoa(n)
		}
		c.replies.wait[lane] = func(m *nats.Msg) { done(failure(m)) }
		m := &nats.Msg{Subject: jobs.RPCSession + id, Reply: c.replies.prefix + strconv.Itoa(lane), Data: body}
		if o.Named {
			m.Header = nats.Header{jobs.HeaderJob: {nuid.Next()}}
		}
		if err := c.nc.PublishMsg(m); err != nil {
			done(err)
		}
	}
}

// batch publishes o.Count jobs with at most o.Window unacknowledged, and waits for all replies. Latencies are from the
// publish to the reply.
func (c *client) batch(o order) (answer, error) {
	prefix := c.nc.NewInbox() + "."
	if c.behind {
		prefix = "dspex.reply." + nuid.Next() + "."
	}
	sent := make([]time.Time, o.Count)
	latencies := make([]float64, 0, o.Count)
	ended := make(chan error, 1)
	sub, err := c.nc.Subscribe(prefix+"*", func(m *nats.Msg) {
		n, err := strconv.Atoi(m.Subject[len(prefix):])
		if err == nil {
			err = failure(m)
		}
		if err != nil {
			select {
			case ended <- err:
			default:
			}
			return
		}
		latencies = append(latencies, float64(time.Since(sent[n]).Nanoseconds())/1000)
		if len(latencies) == o.Count {
			ended <- nil
		}
	})
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return answer{}, err
	}
	began := time.Now()
	room := make(chan struct{}, o.Window)
	var mu sync.Mutex
	var refused error
	for n := range o.Count {
		room <- struct{}{}
		sent[n] = time.Now()
		m := &nats.Msg{Subject: jobs.SessionRef{Tenant: jobs.DefaultTenant, ID: session(n)}.PublishSubject(""), Data: callBody,
			Header: nats.Header{jobs.HeaderReplyTo: {prefix + strconv.Itoa(n)}}}
		c.w.Publish(m, func(_ stream.Ack, err error) {
			if err != nil {
				mu.Lock()
				refused = err
				mu.Unlock()
			}
			<-room
		})
	}
	mu.Lock()
	err = refused
	mu.Unlock()
	if err != nil {
		return answer{}, err
	}
	select {
	case err = <-ended:
	case <-time.After(orderTimeout / 2):
		err = fmt.Errorf("only some of the replies came")
	}
	return summary(time.Since(began), latencies), err
}

// What is asked of the way through HTTP, as a share of the same calls by NATS: as of jobs that have an id, since the gateway gives each one.
const (
	mostHTTPTime = 1.25 // of the median, with one call in flight
	mostHTTPCost = 1.3  // of the processor time of all but the load generator, with loadWindow in flight
)

// playWeb sends calls over HTTP, as a client without NATS does.
func playWeb(url string) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: maxLanes}}
	fmt.Println("ready")
	return obey(func(o order) (answer, error) {
		return window(o, func(_, n int, done func(error)) {
			go func() { done(post(client, url+"/v1/sessions/"+session(n)+"/jobs")) }()
		})
	})
}

func post(client *http.Client, url string) error {
	r, err := client.Post(url, "application/json", bytes.NewReader(callBody))
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }()
	text, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", r.StatusCode, text)
	}
	return err
}

// measureGateway compares calls through the gateway with the same calls by NATS, in turns.
func measureGateway(ctx context.Context, o *options, r *report) error {
	g, _, err := wholeRig(ctx, o, 2, slots, "--engine", "stub", "--python", o.python)
	if err != nil {
		return err
	}
	defer g.stop()
	native := slices.DeleteFunc(g.all(), func(p *process) bool { return p == g.agent })
	served, err := start(o, -1, "whole-gateway", filepath.Join(o.bin, "dspex"), "gateway", "--server", g.url, "--listen", "127.0.0.1:0")
	if err != nil {
		return err
	}
	g.others = append(g.others, served)
	url, err := served.await(ctx, served.lines, "ready ")
	if err != nil {
		return err
	}
	web, err := start(o, -1, "web", o.self, "role", "web", "-server", strings.TrimSpace(url))
	if err != nil {
		return err
	}
	g.others = append(g.others, web)
	if _, err := web.await(ctx, web.lines, "ready"); err != nil {
		return err
	}
	if _, err := g.agent.ask(ctx, order{Do: "call", Window: loadWindow, Count: sessions}); err != nil {
		return err
	}
	ways := []struct {
		name  string
		agent *process
		cost  []*process
		named bool
	}{{"NATS without ids", g.agent, native, false}, {"NATS", g.agent, native, true}, {"HTTP", web, append(slices.Clone(native), served), false}}
	got := map[string][]sample{}
	for _, in := range []int{1, loadWindow} {
		for range o.rounds {
			for _, w := range ways {
				m := newMeter(w.cost...)
				a, err := w.agent.ask(ctx, order{Do: "call", Window: in, Seconds: o.slice.Seconds(), Named: w.named})
				if err != nil {
					return fmt.Errorf("%s, %d in flight: %w", w.name, in, err)
				}
				key := fmt.Sprintf("%s, %d in flight", w.name, in)
				got[key] = append(got[key], m.read(a))
			}
		}
	}
	r.head("gateway: calls over HTTP and by NATS, stub engine, CPU without the load generator", "", "1/s", "p50 us", "p99 us", "CPU us", "spread", "idle", "others", "over NATS asked", "median", "spread", "")
	ratios := func(in int, of func(sample) float64) (all []float64) {
		natural, over := got[fmt.Sprintf("NATS, %d in flight", in)], got[fmt.Sprintf("HTTP, %d in flight", in)]
		for i := range over {
			all = append(all, of(over[i])/of(natural[i]))
		}
		return all
	}
	for _, in := range []int{1, loadWindow} {
		for _, way := range []string{"NATS without ids", "NATS"} {
			name := fmt.Sprintf("%s, %d in flight", way, in)
			r.line(append([]string{name}, cells(r, "gateway", name, got[name])...)...)
		}
		name := fmt.Sprintf("HTTP, %d in flight", in)
		var judged []string
		if in == 1 {
			judged = r.judge("gateway", "p50 over NATS, 1 in flight", "", "<=", mostHTTPTime, ratios(in, sample.p50))
		} else {
			judged = r.judge("gateway", "CPU over NATS, 64 in flight", "", "<=", mostHTTPCost, ratios(in, sample.cost))
		}
		r.line(append(append([]string{name}, cells(r, "gateway", name, got[name])...), judged...)...)
	}
	r.tail()
	return nil
}

// mixed makes calls that end in every way: answered, refused, cancelled, and left by a client that does not wait.
func (c *client) mixed(o order) operation {
	answered := c.call(o)
	return func(lane, n int, done func(error)) {
		switch n % 4 {
		case 0:
			c.replies.wait[lane] = func(*nats.Msg) { done(nil) } // refused
			if err := c.nc.PublishRequest(jobs.RPCSession+session(n), c.replies.prefix+strconv.Itoa(lane), []byte("{")); err != nil {
				done(err)
			}
			return
		case 1: // nobody hears its answer
			if err := c.nc.PublishRequest(jobs.RPCSession+session(n), c.nc.NewInbox(), callBody); err != nil {
				done(err)
				return
			}
		case 2:
			if err := c.cancelled(session(n), strconv.Itoa(n)+"-"+c.nc.NewInbox()[len("_INBOX.client."):]); err != nil {
				done(err)
				return
			}
		}
		answered(lane, n, done)
	}
}
