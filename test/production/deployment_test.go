package production

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
)

// TestADeployment is one story: it starts, serves, loses a host, and ends when it must, with the permissions of nats.conf alone.
func TestADeployment(t *testing.T) {
	fresh(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	d := start(t, "dispatcher", "dispatcher", "--name", "d1", "--partitions", "16")
	h1, h2 := startHost(t, "h1"), startHost(t, "h2")
	for _, p := range []*process{h1, h2, d} {
		if line := <-p.ready; !strings.HasPrefix(line, "ready ") || strings.Contains(line, "pw-of") {
			t.Fatalf("it said %q", line)
		}
	}
	c, err := dspex.Connect(ctx, broker.ClientURL(), dspex.WithNATS(nats.UserInfo("client", password("client")), nats.CustomInboxPrefix("_INBOX.client")))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	t.Run("a request is answered", func(t *testing.T) {
		r, err := c.Execute(ctx, "user_123", "predict", dspex.Args{"question": "What is the capital of France?"})
		if err != nil || !strings.Contains(string(r.Result), "capital of France") || !strings.HasPrefix(r.Engine, "stub") {
			t.Errorf("%s by %s, %v", r.Result, r.Engine, err)
		}
	})
	t.Run("a published job is answered later", func(t *testing.T) {
		if _, err := c.Submit(ctx, "batch_1", "predict", dspex.Args{"question": "later?"}, dspex.WithJobID("j1")); err != nil {
			t.Fatal(err)
		}
		if r, err := c.Wait(ctx, dspex.JobRef{Session: "batch_1", ID: "j1"}); err != nil || !strings.Contains(string(r.Result), "later?") {
			t.Errorf("%s, %v", r.Result, err)
		}
	})
	t.Run("so are jobs without session, in both lanes", func(t *testing.T) {
		if _, err := c.ExecuteAnonymous(ctx, "set_lm", dspex.Args{"provider": "ollama", "model": "llama3"}); err == nil || !strings.Contains(err.Error(), "role_required") {
			t.Errorf("a client chooses everybody's language model: %v", err)
		}
		for _, lane := range []dspex.Lane{dspex.LaneInteractive, dspex.LaneBatch} {
			job := "lane-" + string(lane)
			if _, err := c.SubmitAnonymous(ctx, lane, "echo", dspex.Args{"x": 1}, dspex.WithJobID(job)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Wait(ctx, dspex.JobRef{ID: job}); err != nil {
				t.Errorf("%s: %v", lane, err)
			}
		}
	})
	t.Run("the health is good while all succeed", func(t *testing.T) {
		tick := time.NewTicker(100 * time.Millisecond) // a host that answers late degrades one measurement
		defer tick.Stop()
		for {
			h, err := c.Health(ctx)
			if err == nil && h.Status == "healthy" {
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("%+v, %v", h, err)
			}
		}
	})
	t.Run("the doctor shows what its user may do", func(t *testing.T) {
		for user, lines := range map[string][]string{
			"operator": {"operator of the account OPERATOR may run jobs, publish jobs, operate, look at streams; not: change streams"},
			"client":   {"client of the account default may run jobs, publish jobs; not: operate", `permission denied: Publish to "dspex.rpc.hosts.list"`},
		} {
			cmd := exec.CommandContext(ctx, located("dspex"), "doctor")
			cmd.Env = environ(user)
			text, _ := cmd.CombinedOutput() // its exit status depends on this machine too
			for _, line := range lines {
				if !strings.Contains(string(text), line) {
					t.Errorf("%s: no %s in\n%s", user, line, text)
				}
			}
		}
	})
	t.Run("a job that fails for good goes to the dead letters", func(t *testing.T) {
		_, err := c.Execute(ctx, "dead", "boom", dspex.Args{"retryable": true}, dspex.WithMaxRetries(1), dspex.WithBackoff(dspex.Delays(time.Millisecond)))
		if !errors.Is(err, dspex.ErrPython) {
			t.Errorf("%v", err)
		}
	})
	t.Run("jobs are cancelled, running or waiting", func(t *testing.T) {
		for _, job := range []string{"c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"} { // eight slots in all
			if _, err := c.SubmitAnonymous(ctx, dspex.LaneInteractive, "sleep", dspex.Args{"ms": 600000}, dspex.WithJobID(job), dspex.WithTimeout(15*time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
		for _, job := range []string{"c9", "c8", "c7", "c6", "c5", "c4", "c3", "c2", "c1"} {
			if info, err := c.Cancel(ctx, dspex.JobRef{ID: job}); err != nil || info.Status != dspex.JobCancelled {
				t.Errorf("%s: %+v, %v", job, info, err)
			}
		}
		if _, err := c.Submit(ctx, "patient", "sleep", dspex.Args{"ms": 600000}, dspex.WithJobID("p1"), dspex.WithTimeout(15*time.Minute)); err != nil {
			t.Fatal(err)
		}
		if info, err := c.Cancel(ctx, dspex.JobRef{Session: "patient", ID: "p1"}); err != nil || info.Status != dspex.JobCancelled {
			t.Errorf("%+v, %v", info, err)
		}
	})
	t.Run("the command line takes the user from its variables", func(t *testing.T) {
		cmd := exec.Command(filepath.Join(bin, "dspex"), "call", "predict", "question=Who asks?", "--session", "cli")
		cmd.Env = environ("client")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "Who asks?") {
			t.Errorf("%s, %v", out, err)
		}
		cmd = exec.Command(filepath.Join(bin, "dspex"), "health")
		cmd.Env = append(environ("client"), "NATS_PASSWORD=wrong")
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "Authorization") {
			t.Errorf("with a wrong password: %s, %v", out, err)
		}
	})
	t.Run("an operator looks after it", func(t *testing.T) {
		nc, err := nats.Connect(broker.ClientURL(), nats.UserInfo("operator", password("operator")), nats.CustomInboxPrefix("_INBOX.operator"))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		operate(ctx, t, dspex.New(nc), nc)
		if _, err := dspex.New(nc).Admin().ExecuteAnonymous(ctx, "push_program", dspex.Args{"id": "pushed", "signature": "question -> answer"}); err != nil {
			t.Error(err)
		}
	})
	t.Run("a killed host's sessions go on elsewhere", func(t *testing.T) {
		served := map[string]string{}
		for n := range 24 {
			session := fmt.Sprintf("s%d", n)
			r, err := c.Execute(ctx, session, "append", dspex.Args{"x": 1})
			if err != nil {
				t.Fatal(err)
			}
			served[session] = r.Host
		}
		if err := h1.kill(); err == nil {
			t.Error("a killed host ended well")
		}
		for session, host := range served {
			r, err := c.Execute(ctx, session, "append", dspex.Args{"x": 2}, dspex.WithTimeout(time.Minute))
			if err != nil || !strings.Contains(strings.ReplaceAll(string(r.Result), " ", ""), "[1,2]") || r.Host != "h2" {
				t.Errorf("%s of %s: %s by %s, %v", session, host, r.Result, r.Host, err)
			}
		}
		args := dspex.Args{"program_id": "pushed", "inputs": map[string]any{"question": "Who has it?"}}
		if r, err := c.Execute(ctx, "s1", "execute_program", args); err != nil || !strings.Contains(string(r.Result), "Who has it?") {
			t.Errorf("what was pushed: %s, %v", r.Result, err)
		}
	})
	for _, p := range []*process{d, h2} {
		if err := p.end(); err != nil {
			t.Errorf("%s: %v", p.cmd.Args[3], err)
		}
	}
	logs.mu.Lock()
	defer logs.mu.Unlock()
	for _, line := range logs.denied {
		t.Errorf("nats.conf lacks a right: %s", line)
	}
}

// operate does what the command line does for an operator.
func operate(ctx context.Context, t *testing.T, c *dspex.Client, nc *nats.Conn) {
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	seen := 0
	for _, err := range c.Admin().Sessions(ctx, dspex.SessionFilter{}) {
		must("sessions list", err)
		seen++
	}
	if seen == 0 {
		t.Error("no session is listed")
	}
	_, err := c.Admin().ExecuteAnonymous(ctx, "set_lm", dspex.Args{"provider": "ollama", "model": "llama3"})
	must("set_lm for all", err)
	_, err = c.Admin().GetSession(ctx, "user_123")
	must("sessions get", err)
	document, err := c.Admin().ExportSession(ctx, "user_123")
	must("sessions export", err)
	_, err = c.Admin().ImportSession(ctx, "twin", document, false)
	must("sessions import", err)
	_, err = c.Admin().CleanupSession(ctx, "twin")
	must("sessions cleanup", err)
	_, err = c.Admin().EraseSession(ctx, "twin")
	must("sessions erase", err)
	_, err = c.Admin().Hosts(ctx)
	must("hosts list", err)
	reloads, err := c.Admin().ReloadHosts(ctx, "")
	must("reload", err)
	if len(reloads) != 2 || len(reloads[0].Faults)+len(reloads[1].Faults) > 0 {
		t.Errorf("a reload of both hosts: %+v", reloads)
	}
	must("hosts drain", c.Admin().DrainHost(ctx, "h2"))
	must("hosts resume", c.Admin().ResumeHost(ctx, "h2"))
	_, err = c.Admin().SetPartitions(ctx, 8)
	must("partitions", err)
	_, err = c.Admin().Consumers(ctx)
	must("consumers list", err)
	_, err = c.Admin().Breakers(ctx)
	must("breakers", err)
	letter := uint64(0)
	for l, err := range c.Admin().DeadLetters(ctx, dspex.DeadLetterFilter{Session: "dead"}) {
		must("dlq list", err)
		letter = l.Sequence
	}
	_, err = c.Admin().GetDeadLetter(ctx, letter)
	must("dlq show", err)
	_, err = c.Admin().ReplayDeadLetter(ctx, letter)
	must("dlq replay", err)
	must("dlq purge", c.Admin().PurgeDeadLetter(ctx, letter))
	for _, subject := range []string{"$SRV.STATS.dspex", "$JS.API.STREAM.LIST"} {
		_, err := nc.RequestWithContext(ctx, subject, []byte("{}"))
		must(subject, err)
	}
}
