package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// found is what each client reports of what it did.
type found struct {
	Reply    jobReply `json:"reply"`    // of a call
	Refused  refusal  `json:"refused"`  // of a call of an unknown command
	Partials []string `json:"partials"` // of a call that streams
	Streamed jobReply `json:"streamed"` // its last message
	Stream   string   `json:"stream"`   // of the PubAck of a durable publish
	Answer   jobReply `json:"answer"`   // on Dspex-Reply-To
	Again    jobReply `json:"again"`    // of the same publish again
	Outcome  struct {
		Result struct {
			Outcome string   `json:"outcome"`
			Reply   jobReply `json:"reply"`
		} `json:"result"`
	} `json:"outcome"` // of jobs.get
}

type jobReply struct {
	OK     bool   `json:"ok"`
	Engine string `json:"engine"`
	Result struct {
		Answer string `json:"answer"`
	} `json:"result"`
}

type refusal struct {
	Code  string `json:"code"`
	Error string `json:"error"`
}

func (f found) check(t *testing.T) {
	t.Helper()
	for name, c := range map[string]struct {
		reply    jobReply
		question string
	}{"reply": {f.Reply, "Elixir"}, "streamed": {f.Streamed, "three four"}, "answer": {f.Answer, "Tell me more"}, "again": {f.Again, "Tell me more"}, "outcome": {f.Outcome.Result.Reply, "Tell me more"}} {
		switch r := c.reply; {
		case !r.OK:
			t.Errorf("must hold: r.OK; %s: %+v", name, r)
		case r.Engine != "dspy 3.4.1":
			t.Errorf(`r.Engine must be "dspy 3.4.1", got %v; %s: %+v`, r.Engine, name, r)
		case !strings.HasPrefix(r.Result.Answer, "echo"):
			t.Errorf(`must hold: strings.HasPrefix(r.Result.Answer, "echo"); %s: %+v`, name, r)
		case !strings.Contains(r.Result.Answer, c.question):
			t.Errorf("must hold: strings.Contains(r.Result.Answer, c.question); %s: %+v", name, r)
		}
	}
	if f.Refused.Code != "400" || f.Refused.Error != "unknown_command" {
		t.Errorf("refused: %+v", f.Refused)
	}
	if len(f.Partials) < 2 || strings.TrimSpace(strings.Join(f.Partials, "")) != f.Streamed.Result.Answer {
		t.Errorf("partials %q of %q", f.Partials, f.Streamed.Result.Answer)
	}
	if f.Answer != f.Again || f.Answer != f.Outcome.Result.Reply {
		t.Errorf("a repeated publish was answered with %+v, the first with %+v", f.Again, f.Answer)
	}
	if f.Stream != "DSPEX_JOBS" || f.Outcome.Result.Outcome != "succeeded" {
		t.Errorf("published: %+v", f)
	}
}

// TestClientsInOtherLanguages runs programs that use nothing but the NATS client of their language.
func TestClientsInOtherLanguages(t *testing.T) {
	python := os.Getenv("DSPEX_TEST_PYTHON")
	if python == "" {
		t.Fatal("DSPEX_TEST_PYTHON names the interpreter of the development environment: run `make test`, or `make setup` and name .venv/bin/python")
	}
	needNode(t)
	for name, argv := range map[string][]string{"python": {python, "client.py", url}, "node": {"node", "node/client.mjs", url}} {
		t.Run(name, func(t *testing.T) {
			out, err := exec.Command(argv[0], argv[1:]...).Output()
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				t.Fatalf("%v\n%s", err, exit.Stderr)
			}
			var f found
			if err == nil {
				err = json.Unmarshal(out, &f)
			}
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			f.check(t)
		})
	}
}

// TestAClientThatUsesOnlyNATS does the same in Go, without the package dspex.
func TestAClientThatUsesOnlyNATS(t *testing.T) {
	const patience = time.Minute
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	read := func(m *nats.Msg, err error) (r jobReply) {
		t.Helper()
		must(err)
		must(json.Unmarshal(m.Data, &r))
		return r
	}
	const endpoint = "dspex.rpc.session.go_1"
	f := found{Reply: read(nc.Request(endpoint, []byte(`{"command": "predict", "args": {"question": "What is Elixir?"}}`), patience))}

	refused, err := nc.Request(endpoint, []byte(`{"command": "frobnicate"}`), patience)
	must(err)
	var body struct{ Error struct{ Code string } }
	must(json.Unmarshal(refused.Data, &body))
	f.Refused = refusal{refused.Header.Get("Nats-Service-Error-Code"), body.Error.Code}

	inbox, err := nc.SubscribeSync(nc.NewInbox())
	must(err)
	must(nc.PublishRequest(endpoint, inbox.Subject, []byte(`{"command": "predict", "args": {"question": "one two three four"}, "options": {"stream": true}}`)))
	for {
		m, err := inbox.NextMsg(patience)
		must(err)
		if m.Header.Get("Dspex-Partial") == "" {
			f.Streamed = read(m, nil)
			break
		}
		var part struct{ Chunk string }
		must(json.Unmarshal(m.Data, &part))
		f.Partials = append(f.Partials, part.Chunk)
	}

	js, err := jetstream.New(nc)
	must(err)
	answers, err := nc.SubscribeSync("dspex.reply.go_1")
	must(err)
	for range 2 {
		m := nats.NewMsg("dspex.session.go_1")
		m.Data = []byte(`{"command": "predict", "args": {"question": "Tell me more about it"}}`)
		m.Header.Set("Dspex-Job", "go-job-1")
		m.Header.Set("Dspex-Reply-To", answers.Subject)
		ack, err := js.PublishMsg(t.Context(), m)
		must(err)
		f.Stream = ack.Stream
	}
	f.Answer, f.Again = read(answers.NextMsg(patience)), read(answers.NextMsg(patience))
	m, err := nc.Request("dspex.rpc.jobs.get", []byte(`{"session": "go_1", "job": "go-job-1", "wait_ms": 60000}`), patience)
	must(err)
	must(json.Unmarshal(m.Data, &f.Outcome))
	f.check(t)
}

// needNode reports what is missing before node does.
func needNode(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(filepath.Join("node", "node_modules", "@nats-io", "transport-node")); err != nil {
		t.Fatalf("the packages of the JavaScript client are not installed (%v): run `make setup`, or `npm ci` in test/e2e/node", err)
	}
}
