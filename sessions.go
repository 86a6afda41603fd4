package dspex

import (
	"context"
	"encoding/json"
	"iter"
	"maps"
	"time"
)

const (
	doorSessions = "dspex.rpc.sessions."
	doorHosts    = "dspex.rpc.hosts."
)

// SessionInfo is what is known of a session.
type SessionInfo struct {
	SessionID     string    `json:"session_id"`
	WorkerID      string    `json:"worker_id"` // that ran its last successful job; "" if none has
	Host          string    `json:"host"`      // that serves it now; "" while its partition moves
	Partition     int       `json:"partition"`
	Generation    uint64    `json:"generation"` // each cleanup begins a new one
	CreatedAt     time.Time `json:"created_at"`
	LastActivity  time.Time `json:"last_activity"`
	IdleMS        int64     `json:"idle_ms"`
	Expired       bool      `json:"expired"` // idle for too long: its next job finds its state gone
	Operations    uint64    `json:"operations"`
	ProgramsCount int       `json:"programs_count"`
	StateVersion  uint64    `json:"state_version"`
	StateBytes    int       `json:"state_bytes"`
	Unreadable    string    `json:"unreadable"` // why its record cannot be read; then most of the rest is missing

	Raw json.RawMessage `json:"-"` // all that was said
}

// SessionDetails is all about one session.
type SessionDetails struct {
	SessionInfo
	Epoch           uint64           `json:"epoch"`
	AgeMS           int64            `json:"age_ms"`
	LastSequence    uint64           `json:"last_sequence"`
	Programs        []SessionProgram `json:"programs"`
	Turns           int              `json:"turns"`     // of conversation
	DataKeys        int              `json:"data_keys"` // that update_session_data wrote
	LM              map[string]any   `json:"lm"`        // its choice of language model
	WaitingJobs     int              `json:"waiting_jobs"`
	OldestWaitingMS int64            `json:"oldest_waiting_ms"`
	Running         *SessionJob      `json:"running"`
}

// SessionProgram is a program of a session.
type SessionProgram struct {
	ID             string `json:"id"`
	ProgramType    string `json:"program_type"`
	ExecutionCount int64  `json:"execution_count"`
	CreatedAt      string `json:"created_at"`
	LastExecuted   string `json:"last_executed"` // "" if it never was
}

// SessionJob is the job that a session works on.
type SessionJob struct {
	Job      string  `json:"job"`
	Sequence uint64  `json:"sequence"`
	Attempt  int     `json:"attempt"`
	Outcome  Outcome `json:"outcome"` // Running or Retrying
}

// SessionFilter chooses sessions. The zero value chooses all.
type SessionFilter struct {
	Prefix string        // of the session id
	Host   string        // that serves the session now
	Idle   time.Duration // not used for so long at least
	Limit  int           // of sessions, 0: no limit
}

// mostPage is the largest page that is asked for.
const mostPage = 500

// Sessions lists the sessions that have state or history, those not used for longest first. It reads page by page while the
// loop goes on. One that is used meanwhile may come twice.
func (c *Client) Sessions(ctx context.Context, f SessionFilter) iter.Seq2[SessionInfo, error] {
	return func(yield func(SessionInfo, error) bool) {
		ask := map[string]any{"idle_ms": f.Idle.Milliseconds(), "prefix": f.Prefix}
		if f.Host != "" {
			ask["host"] = f.Host
		}
		for left := f.Limit; ; {
			ask["limit"] = mostPage
			if left > 0 {
				ask["limit"] = min(left, mostPage)
			}
			page, cursor, err := c.sessionPage(ctx, ask)
			if err != nil {
				yield(SessionInfo{}, err)
				return
			}
			for _, s := range page {
				if !yield(s, nil) {
					return
				}
			}
			if left -= len(page); cursor == "" || f.Limit > 0 && left <= 0 {
				return
			}
			ask["cursor"] = cursor
		}
	}
}

func (c *Client) sessionPage(ctx context.Context, ask map[string]any) ([]SessionInfo, string, error) {
	reply, err := c.admin(ctx, doorSessions+"list", ask)
	if err != nil {
		return nil, "", err
	}
	var page struct {
		Sessions []json.RawMessage `json:"sessions"`
		Cursor   string            `json:"cursor"`
	}
	if err := reply.Decode(&page); err != nil {
		return nil, "", badReply("the list of sessions is not the expected JSON: %v", err)
	}
	list := make([]SessionInfo, 0, len(page.Sessions))
	for _, raw := range page.Sessions {
		s := SessionInfo{Raw: raw}
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, "", badReply("a session is not the expected JSON: %v", err)
		}
		list = append(list, s)
	}
	return list, page.Cursor, nil
}

// Session tells all about one session. One of which nothing is known is an error of category ErrSession, code
// session_unknown.
func (c *Client) Session(ctx context.Context, session string) (SessionDetails, error) {
	reply, err := c.aboutSession(ctx, "get", session)
	if err != nil {
		return SessionDetails{}, err
	}
	s := SessionDetails{SessionInfo: SessionInfo{Raw: reply.Result}}
	if err := reply.Decode(&s); err != nil {
		return SessionDetails{}, badReply("the answer about the session is not the expected JSON: %v", err)
	}
	return s, nil
}

// ExportSession returns a document from which ImportSession makes the session again.
func (c *Client) ExportSession(ctx context.Context, session string) (json.RawMessage, error) {
	reply, err := c.aboutSession(ctx, "export", session)
	return reply.Result, err
}

func (c *Client) aboutSession(ctx context.Context, verb, session string) (Reply, error) {
	if _, err := sessionSubject("", session); err != nil {
		return Reply{}, err
	}
	return c.admin(ctx, doorSessions+verb, map[string]any{"session": session})
}

// CleanupSession removes a session's state, after the jobs that it has waiting. Doing it twice is fine.
func (c *Client) CleanupSession(ctx context.Context, session string, opts ...Option) (Reply, error) {
	return c.sessionJob(ctx, "cleanup", session, nil, opts)
}

// EraseSession removes everything about a session: state, outcomes and dead letters, after the jobs that it has waiting.
// Doing it twice is fine.
func (c *Client) EraseSession(ctx context.Context, session string, opts ...Option) (Reply, error) {
	return c.sessionJob(ctx, "erase", session, nil, opts)
}

// ImportSession makes an exported document the session's state. A session that has state is left alone (code
// session_not_empty) unless replace is true.
func (c *Client) ImportSession(ctx context.Context, session string, document json.RawMessage, replace bool, opts ...Option) (Reply, error) {
	if !json.Valid(document) {
		return Reply{}, &Error{Category: ErrPython, Code: CodeBadRequest, Message: "the document is not JSON", Path: "document", Expected: "what ExportSession returned"}
	}
	return c.sessionJob(ctx, "import", session, map[string]any{"document": document, "replace": replace}, opts)
}

// sessionJob asks for a job that concerns a session as a whole. Of the options only WithJob has an effect there.
func (c *Client) sessionJob(ctx context.Context, verb, session string, ask map[string]any, opts []Option) (Reply, error) {
	if _, err := sessionSubject("", session); err != nil {
		return Reply{}, err
	}
	r, err := newRequest(verb, nil, opts)
	if err != nil {
		return Reply{}, err
	}
	if len(r.options) > 0 || r.replyTo != "" {
		return Reply{}, badOption("", "WithJob", "the other options have no effect on %s", verb)
	}
	body := map[string]any{"session": session}
	maps.Copy(body, ask)
	if r.body, err = json.Marshal(body); err != nil {
		return Reply{}, err
	}
	ctx, cancel := bounded(ctx, r.total()+settling)
	defer cancel()
	m, err := c.request(ctx, r.callMessage(ctx, doorSessions+verb), r.job)
	if err != nil {
		return Reply{}, err
	}
	return readReply(m)
}

// HostState is what a host does.
type HostState string

// The states of hosts.
const (
	HostServing  HostState = "serving"
	HostDraining HostState = "draining" // it is to be empty, and still holds partitions
	HostDrained  HostState = "drained"  // it holds none
	HostStopping HostState = "stopping" // it got SIGTERM and finishes what runs
	HostGone     HostState = "gone"     // it is not alive, and holds partitions or is to be drained
)

// HostInfo is a worker-host. The numbers of one that is gone are not known.
type HostInfo struct {
	Host             string    `json:"host"`
	State            HostState `json:"state"`
	Drain            bool      `json:"drain"` // it is to be empty until it is resumed
	Partitions       int       `json:"partitions"`
	Incarnation      string    `json:"incarnation"`
	Engine           string    `json:"engine"`
	Capacity         int       `json:"capacity"` // slots
	Free             int       `json:"free"`
	PoolSize         int       `json:"pool_size"`
	ActiveWorkers    int       `json:"active_workers"`
	AvailableWorkers int       `json:"available_workers"`
	ActiveSessions   int64     `json:"active_sessions"` // in memory
	BusySessions     int64     `json:"busy_sessions"`   // with work
	TotalRequests    int64     `json:"total_requests"`
	TotalErrors      int64     `json:"total_errors"`
	AffinityHits     int64     `json:"affinity_hits"`   // jobs that ran where their session was warm
	AffinityMisses   int64     `json:"affinity_misses"` // whose session was warm nowhere
	AffinityMoves    int64     `json:"affinity_moves"`  // whose session was warm in a worker without a free slot
}

// Hosts are the worker-hosts and who assigns the partitions to them.
type Hosts struct {
	Hosts      []HostInfo      `json:"hosts"`
	Partitions int             `json:"partitions"`
	Unassigned int             `json:"unassigned"` // partitions that belong to nobody at the moment
	Leader     string          `json:"leader"`     // the dispatcher that assigns them
	Raw        json.RawMessage `json:"-"`          // all that was said
}

// Hosts lists the worker-hosts, measured now.
func (c *Client) Hosts(ctx context.Context) (Hosts, error) {
	reply, err := c.admin(ctx, doorHosts+"list", struct{}{})
	if err != nil {
		return Hosts{}, err
	}
	h := Hosts{Raw: reply.Result}
	if err := reply.Decode(&h); err != nil {
		return Hosts{}, badReply("the list of hosts is not the expected JSON: %v", err)
	}
	return h, nil
}

// DrainHost empties a host and keeps it empty, also through restarts, until it is resumed. It returns at once: the host's
// sessions move as soon as their jobs allow it.
func (c *Client) DrainHost(ctx context.Context, host string) error {
	_, err := c.admin(ctx, doorHosts+"drain", map[string]any{"host": host})
	return err
}

// ResumeHost lets a drained host serve again.
func (c *Client) ResumeHost(ctx context.Context, host string) error {
	_, err := c.admin(ctx, doorHosts+"resume", map[string]any{"host": host})
	return err
}
