package devserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/natstest"
)

// onDisk runs broker and dispatcher on a disk of 400 MiB, probed often.
func onDisk(t *testing.T, dir string) *nats.Conn {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ready := make(chan Info, 1)
	var done sync.WaitGroup
	done.Go(func() {
		cfg := Config{Listen: natstest.FreeAddress(t), Dir: filepath.Join(dir, "store"), ProbeEach: 200 * time.Millisecond, Ready: func(i Info) { ready <- i }}
		if err := Control(ctx, cfg); err != nil {
			t.Errorf("it ended: %v", err)
		}
	})
	t.Cleanup(func() { stop(); done.Wait() })
	nc, err := nats.Connect((<-ready).URL, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

type answered struct {
	OK    bool
	Error struct{ Code, Message, Hint string }
}

// until sends requests until an answer is as expected.
func until(t *testing.T, nc *nats.Conn, subject, body string, wanted func(answered) bool) answered {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	last := ""
	for end := time.After(30 * time.Second); ; {
		m, err := nc.Request(subject, []byte(body), 15*time.Second)
		var a answered
		if err == nil {
			last = string(m.Data)
		}
		if err == nil && json.Unmarshal(m.Data, &a) == nil && wanted(a) {
			return a
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s: %s %v", subject, last, err)
		}
	}
}

func TestAFullDiskIsNamedAndTheBrokerTakesJobsAgainWhenThereIsRoom(t *testing.T) {
	dir, here := natstest.SmallDisk(t, 400<<20)
	if !here {
		return
	}
	nc := onDisk(t, dir)
	const noHost = "pool_not_available"
	until(t, nc, jobs.RPCHealth, "", func(a answered) bool { return a.Error.Code == noHost })
	publish := func(session string) error {
		m, err := nc.Request("dspex.session."+session, []byte(`{"command":"echo","args":{"x":"`+strings.Repeat("x", 1000)+`"}}`), time.Second)
		if err == nil && strings.Contains(string(m.Data), `"error"`) {
			err = fmt.Errorf("%s", m.Data)
		}
		return err
	}
	acknowledged := 0
	for ; acknowledged < 20; acknowledged++ {
		if err := publish(fmt.Sprint("before-", acknowledged)); err != nil {
			t.Fatal(err)
		}
	}
	free := natstest.Fill(t, dir)
	for n := 0; ; n++ {
		if publish(fmt.Sprint("full-", n)) != nil {
			break
		}
		acknowledged++
	}
	full := until(t, nc, jobs.RPCHealth, "", func(a answered) bool { // another stream may be found full first
		return !a.OK && strings.Contains(a.Error.Message, "DSPEX_JOBS")
	})
	if full.Error.Code != "store_full" || !strings.Contains(full.Error.Message, "the broker's store is full") {
		t.Errorf("health with a full disk: %+v", full)
	}
	refused := until(t, nc, jobs.RPCSession+"a", `{"command":"echo"}`, func(a answered) bool { return !a.OK })
	if refused.Error.Code != "store_full" || strings.Contains(refused.Error.Message, "/") {
		t.Errorf("a call with a full disk: %+v", refused)
	}
	var e *dspex.Error
	if _, err := dspex.New(nc).Submit(t.Context(), "b", "echo", nil); !errors.As(err, &e) || e.Code != "store_full" || !strings.Contains(e.Hint, "send it again") {
		t.Errorf("a published job with a full disk: %v", err)
	}

	free()
	until(t, nc, jobs.RPCHealth, "", func(a answered) bool { return a.Error.Code == noHost })
	for publish("after") != nil {
	}
	m, err := nc.Request("$JS.API.STREAM.INFO.DSPEX_JOBS", []byte(`{"subjects_filter":"dspex.p.>"}`), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		State struct{ Subjects map[string]int }
	}
	if err := json.Unmarshal(m.Data, &s); err != nil || len(s.State.Subjects) < acknowledged+1 {
		t.Errorf("%d sessions have their jobs, %d were acknowledged: %v", len(s.State.Subjects), acknowledged+1, err)
	}
}
