package dashboard

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dspex/dspex"
)

// Bounds of what the page of hosts shows.
const (
	mostHosts   = 100
	mostShownOf = 16 // workers of a host
)

// hostView is a host with its workers.
type hostView struct {
	dspex.HostInfo
	Rate    float64
	Busy    int
	Workers []workerView
	More    int // workers that are not shown
}

// workerView is what was seen of a worker.
type workerView struct {
	Worker           string
	Attempts, Errors int
	Running          int
	Longest          time.Duration // of what runs
	Session          string
	ID               string
	Long             bool
	At               time.Time
}

// hostsView is the page of hosts.
type hostsView struct {
	Hosts      []hostView
	More       int
	Partitions int
	Unassigned int
	Leader     string
	Err        string
	Long       []workerView // workers with an attempt that runs for long
}

// hosts are the hosts and their workers, as they are now.
func (w *watch) hosts() hostsView {
	now, rates := w.last()
	v := hostsView{Partitions: now.Hosts.Partitions, Unassigned: now.Hosts.Unassigned, Leader: now.Hosts.Leader}
	switch {
	case now.At.IsZero():
		v.Err = "waiting for the first answer"
	case now.Err != nil:
		v.Err = now.Err.Error()
	}
	workers := w.tail.workersOf(time.Now())
	for i, h := range now.Hosts.Hosts {
		if i == mostHosts {
			v.More = len(now.Hosts.Hosts) - i
			break
		}
		one := hostView{HostInfo: h, Rate: rates[h.Host], Busy: h.Capacity - h.Free, Workers: workers[h.Host]}
		for _, worker := range one.Workers {
			if worker.Long && len(v.Long) < mostShownOf {
				v.Long = append(v.Long, worker)
			}
		}
		if n := len(one.Workers); n > mostShownOf {
			one.Workers, one.More = one.Workers[:mostShownOf], n-mostShownOf
		}
		v.Hosts = append(v.Hosts, one)
	}
	return v
}

// Share of the busy slots, in hundredths.
func (h hostView) Share() int {
	if h.Capacity == 0 {
		return 0
	}
	return 100 * h.Busy / h.Capacity
}

// workersOf are the workers that were seen, by host.
func (t *tail) workersOf(now time.Time) map[string][]workerView {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := map[string][]workerView{}
	for _, w := range t.workers {
		v := workerView{Worker: w.Worker, Attempts: w.Attempts, Errors: w.Errors, Running: len(w.Running), At: w.At}
		for key, since := range w.Running {
			if d := now.Sub(since); d > v.Longest {
				v.Longest, v.Session, v.ID = d, key.session, key.job
			}
		}
		v.Long = v.Longest > longRun
		all[w.Host] = append(all[w.Host], v)
	}
	for _, list := range all {
		slices.SortFunc(list, func(a, b workerView) int {
			return cmp.Or(cmp.Compare(len(a.Worker), len(b.Worker)), strings.Compare(a.Worker, b.Worker))
		})
	}
	return all
}

func (s *Server) hostsPage(_ context.Context, _ *http.Request, sc scope) (any, error) {
	w, err := s.watch(sc)
	if err != nil {
		return nil, err
	}
	return w.hosts(), nil
}

func drainHost(ctx context.Context, sc scope, f url.Values) (string, error) {
	return address("/hosts", "drain"), sc.own.Admin().DrainHost(ctx, f.Get("name"))
}

func resumeHost(ctx context.Context, sc scope, f url.Values) (string, error) {
	return address("/hosts", "resume"), sc.own.Admin().ResumeHost(ctx, f.Get("name"))
}

// breakersView is the page of circuit breakers.
type breakersView struct {
	Breakers []dspex.Breaker
	More     int
	Err      string
	Acts     bool
}

const mostBreakers = 200

// breakers are the circuit breakers, those that are not closed first.
func (w *watch) breakers() breakersView {
	now, _ := w.last()
	v := breakersView{Breakers: slices.Clone(now.Breakers), Acts: w.scope.fleet()}
	if now.Err != nil {
		v.Err = now.Err.Error()
	}
	order := map[dspex.BreakerState]int{dspex.BreakerOpen: 0, dspex.BreakerHalfOpen: 1, dspex.BreakerClosed: 2}
	slices.SortStableFunc(v.Breakers, func(a, b dspex.Breaker) int {
		return cmp.Or(order[a.State]-order[b.State], strings.Compare(a.Name, b.Name))
	})
	if n := len(v.Breakers); n > mostBreakers {
		v.Breakers, v.More = v.Breakers[:mostBreakers], n-mostBreakers
	}
	return v
}

func (s *Server) breakersPage(_ context.Context, _ *http.Request, sc scope) (any, error) {
	w, err := s.watch(sc)
	if err != nil {
		return nil, err
	}
	return w.breakers(), nil
}

func resetBreaker(ctx context.Context, sc scope, f url.Values) (string, error) {
	_, err := sc.own.Admin().ResetBreaker(ctx, f.Get("name"))
	return address("/breakers", "reset"), err
}
