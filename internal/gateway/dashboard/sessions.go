package dashboard

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/dspex/dspex"
)

// Bounds of what the pages of sessions show and request.
const (
	mostRecent     = 120 // sessions of the map that had a job lately
	mostListed     = 50  // of the list
	mostLookedUp   = 60  // jobs that are looked up, for what their sessions were
	lookedUpAtOnce = 8
	mostTurns      = 20
	mostTurn       = 2 << 10 // bytes of one turn
)

// chip is a session on the map.
type chip struct {
	ID, Host, Worker, Job string
	State                 string // running, warm, restored, reset, none, idle or expired
	Moves                 int
	Tenant                string
	Link                  string
	Label                 string // for those who do not see it
}

// spot is a worker of the map, or a host without one.
type spot struct {
	Worker string
	Chips  []chip
}

// place is a host of the map.
type place struct {
	Host     string
	State    string
	Sessions int64 // in memory
	Busy     int64
	Spots    []spot
}

// sessionsView is the page of sessions.
type sessionsView struct {
	Prefix, Host string
	Map          []place
	Shown        int
	All          string
	List         []dspex.SessionInfo
	Next         string
	Cursor       bool
	Fleet        bool
	Filtered     bool
}

func (s *Server) sessions(ctx context.Context, r *http.Request, sc scope) (any, error) {
	q := r.URL.Query()
	v := sessionsView{Prefix: q.Get("prefix"), Host: q.Get("host"), Cursor: q.Get("cursor") != "", Fleet: sc.fleet()}
	v.Filtered = v.Prefix != "" || v.Host != ""
	prefix := v.Prefix
	if !strings.HasPrefix(prefix, sc.prefix) {
		prefix = sc.prefix
	}
	page, err := sc.client.Admin().SessionsPage(ctx, dspex.SessionFilter{Prefix: prefix, Host: v.Host, Limit: mostListed}, q.Get("cursor"))
	if err != nil {
		return nil, err
	}
	v.List = page.Items
	if page.Next != "" {
		v.Next = Root + "/sessions?" + url.Values{"cursor": {page.Next}, "prefix": {v.Prefix}, "host": {v.Host}}.Encode()
	}
	w, err := s.watch(sc)
	if err != nil {
		return nil, err
	}
	chips := w.tail.recentSessions(func(t *sessionTrack) bool {
		return strings.HasPrefix(t.ID, prefix) && (v.Host == "" || t.Host == v.Host)
	}, mostRecent)
	sc.readStates(ctx, chips)
	chips = withListed(chips, page.Items, sc.tenant)
	now, _ := w.last()
	v.Shown, v.Map = len(chips), mapOf(chips, now.Hosts.Hosts)
	v.All = count(int64(now.Health.Stats.ActiveSessions))
	return v, nil
}

// recentSessions are the sessions that had a job lately, the newest first.
func (t *tail) recentSessions(match func(*sessionTrack) bool, most int) (found []chip) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.recent == nil {
		return nil
	}
	for e := t.recent.Front(); e != nil && len(found) < most; e = e.Next() {
		if s := e.Value.(*sessionTrack); match(s) {
			c := chip{ID: s.ID, Host: s.Host, Worker: s.Worker, Job: s.Job, Moves: s.Moves, Tenant: s.Tenant, State: "idle"}
			if s.Running {
				c.State = "running"
			}
			found = append(found, c)
		}
	}
	return found
}

// readStates looks up which state the worker of each session's last job had of it.
func (sc scope) readStates(ctx context.Context, chips []chip) {
	places, done := make(chan struct{}, lookedUpAtOnce), 0
	var all sync.WaitGroup
	for i := range chips {
		c := &chips[i]
		if c.State == "running" || c.Tenant != sc.tenant || done == mostLookedUp {
			continue
		}
		done++
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			if job, err := sc.client.GetJob(ctx, dspex.JobRef{Session: c.ID, ID: c.Job}); err == nil && job.Reply != nil && job.Reply.SessionState != "" {
				c.State = string(job.Reply.SessionState)
			}
		})
	}
	all.Wait()
}

// withListed adds sessions of the list.
func withListed(chips []chip, listed []dspex.SessionInfo, tenant string) []chip {
	known := map[string]bool{}
	for _, c := range chips {
		if c.Tenant == tenant {
			known[c.ID] = true
		}
	}
	for _, s := range listed {
		if known[s.ID] {
			continue
		}
		c := chip{ID: s.ID, Host: s.Host, Worker: s.Worker, Tenant: tenant, State: "idle"}
		if s.Expired {
			c.State = "expired"
		}
		chips = append(chips, c)
	}
	for i := range chips {
		c := &chips[i]
		c.Label = c.ID + ", " + c.State
		if c.Moves > 0 {
			c.Label += ", moved " + count(int64(c.Moves)) + " times"
		}
		if c.Tenant == tenant { // a page of a session is one of the tenant that is looked at
			c.Link = Root + "/session?id=" + url.QueryEscape(c.ID)
		}
	}
	return chips
}

// mapOf places sessions at their hosts and workers.
func mapOf(chips []chip, hosts []dspex.HostInfo) []place {
	at := map[string]*place{}
	var order []string
	add := func(host string) *place {
		if at[host] == nil {
			at[host] = &place{Host: host}
			order = append(order, host)
		}
		return at[host]
	}
	for _, h := range hosts[:min(len(hosts), mostHosts)] {
		p := add(h.Host)
		p.State, p.Sessions, p.Busy = string(h.State), h.ActiveSessions, h.BusySessions
	}
	for _, c := range chips {
		p := add(c.Host)
		worker := c.Worker
		if c.Host != "" && !strings.HasPrefix(worker, c.Host+"/") {
			worker = "" // the session has moved to a host where none of its jobs has run yet
		}
		i := slices.IndexFunc(p.Spots, func(s spot) bool { return s.Worker == worker })
		if i < 0 {
			p.Spots = append(p.Spots, spot{Worker: worker})
			i = len(p.Spots) - 1
		}
		p.Spots[i].Chips = append(p.Spots[i].Chips, c)
	}
	var all []place
	for _, host := range order {
		p := at[host]
		slices.SortFunc(p.Spots, func(a, b spot) int {
			if (a.Worker == "") != (b.Worker == "") {
				return len(b.Worker) - len(a.Worker) // those on no worker stand last
			}
			return cmp.Or(cmp.Compare(len(a.Worker), len(b.Worker)), strings.Compare(a.Worker, b.Worker))
		})
		for _, s := range p.Spots {
			slices.SortFunc(s.Chips, func(a, b chip) int { return strings.Compare(a.ID, b.ID) })
		}
		all = append(all, *p)
	}
	return all
}

// turn is one of a conversation.
type turn struct{ Inputs, Outputs string }

// sessionView is the page of one session.
type sessionView struct {
	dspex.SessionDetails
	LMText   string
	Last     string // state of the session at its last job
	Moves    int
	Jobs     []track
	Shown    []turn
	LookedUp bool
	Show     string
}

func (s *Server) session(ctx context.Context, r *http.Request, sc scope) (any, error) {
	id := r.URL.Query().Get("id")
	if err := sc.maySee(dspex.JobRef{Session: id, ID: id}); err != nil {
		return nil, err
	}
	details, err := sc.client.Admin().GetSession(ctx, id)
	if err != nil {
		return nil, err
	}
	v := sessionView{SessionDetails: details, Show: Root + "/session?" + url.Values{"id": {id}, "show": {"turns"}}.Encode() + "#turns"}
	if len(details.LM) > 0 {
		b, _ := json.Marshal(details.LM) // it was JSON
		v.LMText = string(b)
	}
	if w, err := s.watch(sc); err == nil {
		v.Jobs, _ = w.tail.list(func(t *track) bool { return t.Session == id && t.Tenant == sc.tenant }, 0, 10)
		for _, c := range w.tail.recentSessions(func(t *sessionTrack) bool { return t.ID == id && t.Tenant == sc.tenant }, 1) {
			one := []chip{c}
			sc.readStates(ctx, one)
			v.Last, v.Moves = one[0].State, c.Moves
		}
	}
	if r.URL.Query().Get("show") == "turns" {
		v.LookedUp = true
		if v.Shown, err = sc.turns(ctx, id); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// turns are the latest of a session's conversation.
func (sc scope) turns(ctx context.Context, session string) (all []turn, err error) {
	document, err := sc.client.Admin().ExportSession(ctx, session)
	if err != nil {
		return nil, err
	}
	var d struct {
		State *struct {
			History []struct{ Inputs, Outputs json.RawMessage }
		}
	}
	if err := json.Unmarshal(document, &d); err != nil || d.State == nil {
		return nil, nil //nolint:nilerr // a state that cannot be shown has no turns to show
	}
	h := d.State.History
	for _, one := range h[max(0, len(h)-mostTurns):] {
		all = append(all, turn{short(one.Inputs), short(one.Outputs)})
	}
	return all, nil
}

// short is the beginning of a body.
func short(raw json.RawMessage) string {
	text := pretty(raw)
	if len(text) > mostTurn {
		return strings.ToValidUTF8(text[:mostTurn], "") + " …"
	}
	return text
}
