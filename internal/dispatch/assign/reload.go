package assign

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/dispatch/endpoint"
	"github.com/dspex/dspex/internal/jobs"
)

// reloadWait bounds the wait for a host that reads its settings again: a few files.
const reloadWait = 10 * time.Second

// Reload has a host, or all live hosts, read their settings again, and returns what each has done.
func (h *Hosts) Reload(ctx context.Context, r endpoint.Request) {
	var host string
	bad := endpoint.ReadBody(r, `{"host": "..."}`, map[string]*endpoint.Entry{"host": endpoint.Text(&host, "a host's name", jobs.ValidSession)})
	live := h.fleet.Live()
	if host != "" && bad == nil {
		all := live
		if live = slices.DeleteFunc(slices.Clone(live), func(b control.Heartbeat) bool { return b.Host != host }); len(live) == 0 {
			bad = unknownHost(all)
		}
	}
	if bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reloadWait)
	defer cancel()
	done := make([]control.Reloaded, len(live))
	var wg sync.WaitGroup
	for i := range live {
		wg.Go(func() { done[i] = h.reload(ctx, live[i].Host) })
	}
	wg.Wait()
	slices.SortFunc(done, func(a, b control.Reloaded) int { return cmp.Compare(a.Host, b.Host) })
	h.log.Info("hosts_reloaded", "hosts", len(done))
	shown := []map[string]any{}
	for _, d := range done {
		shown = append(shown, map[string]any{"host": d.Host, "file": endpoint.OrNil(d.File), "taken": changes(d.Taken), "restart": changes(d.Restart), "faults": append([]string{}, d.Faults...)})
	}
	endpoint.RespondResult(r, map[string]any{"hosts": shown})
}

func changes(of []control.SettingChange) []map[string]any {
	all := []map[string]any{}
	for _, s := range of {
		all = append(all, map[string]any{"key": s.Key, "was": endpoint.OrNil(s.Was), "is": endpoint.OrNil(s.Is), "why": endpoint.OrNil(s.Why)})
	}
	return all
}

// reload requests it of one host.
func (h *Hosts) reload(ctx context.Context, host string) control.Reloaded {
	done := control.Reloaded{}
	body, err := h.broker.Request(ctx, jobs.SubjectControl+host+".reload", nil)
	if err == nil {
		err = json.Unmarshal(body, &done)
	}
	if err != nil {
		done = control.Reloaded{Faults: []string{"no answer: the host is of an earlier release, or its log has what it did"}}
	}
	done.Host = host
	return done.Bounded()
}
