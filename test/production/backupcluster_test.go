package production

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/stream"
)

// threeBrokers starts a cluster from nothing.
func threeBrokers(t *testing.T) (brokers []*server.Server, all string) {
	t.Helper()
	clients, routes := freePorts(t, 3), freePorts(t, 3)
	var urls []string
	for n, port := range clients {
		brokers = append(brokers, clustered(t, n, clients, routes))
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", port))
	}
	for _, s := range brokers {
		go s.Start() // JetStream of a cluster waits for the others
	}
	for _, s := range brokers {
		if !s.ReadyForConnections(time.Minute) {
			t.Fatal("a broker does not start")
		}
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(time.Minute); !serves(brokers); <-tick.C {
		if time.Now().After(until) {
			t.Fatal("the brokers do not agree on a leader")
		}
	}
	return brokers, strings.Join(urls, ",")
}

// serves reports whether JetStream answers on each broker: before it does, a restore gets an error that nobody is there.
func serves(brokers []*server.Server) bool {
	led := false
	for _, s := range brokers {
		if s.Healthz(nil).Status != "ok" {
			return false
		}
		led = led || s.JetStreamIsLeader()
	}
	return led
}

// TestABackupOfThreeBrokersIsADeploymentOnThreeOthers: all that was accepted is there, on three replicas each, also
// if one of the new brokers ends in the second in which the restored partitions are assigned.
func TestABackupOfThreeBrokersIsADeploymentOnThreeOthers(t *testing.T) {
	fresh(t)
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	serve := func(url, host string) []*process {
		t.Helper()
		at := func(user string) []string { return append(environ(user), "NATS_URL="+url) }
		both := []*process{
			startIn(t, at("dispatcher"), "dispatcher", "--name", "d1", "--partitions", "4", "--replicas", "3", "--jobs-size", "64MiB", "--results-size", "64MiB", "--dlq-size", "64MiB", "--batches-size", "64MiB"),
			startIn(t, at("host"), "worker-host", "--name", host, "--engine", "stub", "--workers", "1", "--slots", "8"),
		}
		for _, p := range both {
			if line := <-p.ready; !strings.HasPrefix(line, "ready ") {
				t.Fatalf("it said %q", line)
			}
		}
		return both
	}
	as := func(url, user string) *dspex.Client {
		t.Helper()
		c, err := dspex.Connect(ctx, url, dspex.WithNATS(nats.UserInfo(user, password(user)), nats.CustomInboxPrefix("_INBOX."+user)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	run := func(url string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(ctx, filepath.Join(bin, "dspex"), args...)
		cmd.Env = append(environ("backup"), "NATS_URL="+url)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}

	before, url := threeBrokers(t)
	processes, c := serve(url, "h1"), as(url, "client")
	for n := range 3 {
		if _, err := c.Execute(ctx, "s", "append", dspex.Args{"x": n}, dspex.WithJobID(fmt.Sprint("turn-", n))); err != nil {
			t.Fatal(err)
		}
	}
	long, err := c.Submit(ctx, "queue", "sleep", dspex.Args{"ms": 600_000}, dspex.WithJobID("long"), dspex.WithTimeout(20*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	behind, err := c.Submit(ctx, "queue", "append", dspex.Args{"x": 7})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "copy")
	run(url, "backup", dir)
	for _, p := range processes {
		_ = p.kill()
	}
	for _, s := range before {
		s.Shutdown()
		s.WaitForShutdown()
	}

	after, url := threeBrokers(t)
	run(url, "restore", dir)
	serve(url, "h2")
	nc, err := nats.Connect(url, nats.UserInfo("dispatcher", password("dispatcher")), nats.CustomInboxPrefix("_INBOX.dispatcher"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stream.Objects() {
		s, err := js.Stream(ctx, name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if info := s.CachedInfo(); info.Config.Replicas != 3 || info.Cluster == nil || len(info.Cluster.Replicas) != 2 {
			t.Errorf("%s has %d replicas: %+v", name, info.Config.Replicas, info.Cluster)
		}
	}
	after[0].Shutdown()
	after[0].WaitForShutdown()
	c = as(url, "client")
	r, err := c.Execute(ctx, "s", "append", dspex.Args{"x": 3}, dspex.WithJobID("turn-3"), dspex.WithTimeout(time.Minute))
	if err != nil || listOf(string(r.Result)) != numbers(4) {
		t.Errorf("the session: %s, %v", r.Result, err)
	}
	if got, err := c.Wait(ctx, dspex.JobRef{Session: "s", ID: "turn-2"}); err != nil || listOf(string(got.Result)) != numbers(3) {
		t.Errorf("an outcome of before: %s, %v", got.Result, err)
	}
	if info, err := c.Cancel(ctx, long.Job); err != nil || info.Status != dspex.JobCancelled {
		t.Errorf("what ran: %+v, %v", info, err)
	}
	if r, err := c.Wait(ctx, behind.Job); err != nil || listOf(string(r.Result)) != "[7]" {
		t.Errorf("what waited: %s, %v", r.Result, err)
	}
}
