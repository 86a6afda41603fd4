package devserver

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/contract"
)

// adjusted is a run of the stub engine whose settings change.
type adjusted struct {
	t    *testing.T
	nc   *nats.Conn
	info Info
}

func startAdjusted(t *testing.T, cfg Config) *adjusted {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ready, ended := make(chan Info, 1), make(chan error, 1)
	cfg.Engine, cfg.Listen, cfg.Ready = "stub", "127.0.0.1:0", func(i Info) { ready <- i }
	cfg.Sandbox.Level = "none"
	go func() { ended <- Run(ctx, cfg) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	a := &adjusted{t: t, info: <-ready}
	nc, err := nats.Connect(a.info.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	a.nc = nc
	return a
}

func (a *adjusted) adjust(cfg Config) Adjusted {
	a.t.Helper()
	found, err := a.info.Adjust(cfg)
	if err != nil {
		a.t.Fatal(err)
	}
	return found
}

// awaitPool waits until the host reports as many workers, all of which serve.
func (a *adjusted) awaitPool(size, capacity int) {
	a.t.Helper()
	want := fmt.Sprintf(`"capacity":%d`, capacity)
	for beat := ""; !strings.Contains(beat, want) || !strings.Contains(beat, fmt.Sprintf(`"workers":%d,"active":%d,`, size, size)); {
		m, err := a.nc.Request(contract.SubjectControl+"dev.beat", nil, time.Minute)
		if err != nil {
			a.t.Fatal(err)
		}
		beat = string(m.Data)
	}
}

// writers append to the lists of their sessions until stop is called. Each list must have all that was appended, in order.
func (a *adjusted) writers(sessions int) (appended <-chan struct{}, stop func()) {
	each := make(chan struct{}, 1)
	over := make(chan struct{})
	var all sync.WaitGroup
	for s := range sessions {
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-over:
					return
				default:
				}
				m, err := a.nc.Request(contract.RPCSession+fmt.Sprintf("w%d", s), fmt.Appendf(nil, `{"command":"append","args":{"x":%d}}`, n), time.Minute)
				if err != nil {
					a.t.Error(err)
					return
				}
				var r struct {
					OK     bool
					Result struct{ List []int }
				}
				if err := json.Unmarshal(m.Data, &r); err != nil || !r.OK {
					a.t.Errorf("append %d: %v %s", n, err, m.Data)
					return
				}
				if len(r.Result.List) != n+1 || r.Result.List[n] != n {
					a.t.Errorf("append %d: the list must have 0 to %d, got %v", n, n, r.Result.List)
					return
				}
				select {
				case each <- struct{}{}:
				default: // nobody counts
				}
			}
		})
	}
	return each, func() { close(over); all.Wait() }
}

func TestSettingsAreTakenOverUnderLoadAndNoJobIsLost(t *testing.T) {
	a := startAdjusted(t, Config{Workers: 2, Slots: 4})
	appended, stop := a.writers(8)
	await := func(more int) {
		t.Helper()
		for range more {
			select {
			case <-appended:
			case <-time.After(time.Minute):
				t.Fatal("nothing is appended any more")
			}
		}
	}
	await(50)
	a.adjust(Config{Workers: 4, Slots: 4})
	a.awaitPool(4, 16)
	await(100)
	profiles := filepath.Join(t.TempDir(), "lm.json")
	if err := os.WriteFile(profiles, []byte(`{"profiles": {"fast": {"provider": "ollama", "model": "llama3"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if found := a.adjust(Config{Workers: 1, Slots: 4, LMFile: profiles}); !slices.Equal(found.Content, []string{"lm"}) || len(found.Kept) > 0 {
		t.Errorf("%+v", found)
	}
	a.awaitPool(1, 4)
	await(100)
	if got := a.info.Models(); !slices.Equal(got, []string{"fast"}) {
		t.Errorf("profiles %v", got)
	}
	if found := a.adjust(Config{Workers: 2, Slots: 4}); !slices.Equal(found.Content, []string{"lm"}) { // the echo model is there still
		t.Errorf("%+v", found)
	}
	a.awaitPool(2, 8)
	await(50)
	stop()
}

func TestWhatNeedsARestartKeepsItsValue(t *testing.T) {
	profiles := filepath.Join(t.TempDir(), "lm.json")
	if err := os.WriteFile(profiles, []byte(`{"profiles": {"fast": {"provider": "ollama", "model": "llama3"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Workers: 1, Slots: 4, LMFile: profiles}
	a := startAdjusted(t, cfg)
	next := Config{Workers: 1, Slots: 8}
	next.Alerts.Destinations = []string{"webhook"}
	next.Alerts.Webhook = "http://127.0.0.1:1/"
	found := a.adjust(next)
	for _, flag := range []string{"lm", "alert-destinations"} {
		if found.Kept[flag] == "" {
			t.Errorf("%s must need a restart, got %+v", flag, found)
		}
	}
	if got := a.info.Models(); !slices.Equal(got, []string{"fast"}) {
		t.Errorf("profiles %v", got)
	}
	a.awaitPool(1, 4)
	if _, err := a.info.Adjust(Config{Workers: -1}); err == nil {
		t.Error("a pool of -1 workers is accepted")
	}
}
