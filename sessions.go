package dspex

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"iter"
	"maps"
	"time"

	"github.com/dspex/dspex/internal/contract"
)

// SessionInfo is what is known of a session.
type SessionInfo struct {
	ID            string    `json:"session_id"`
	Worker        string    `json:"worker_id"` // that ran its last successful job; "" if none has
	Host          string    `json:"host"`      // that serves it now; "" while its partition moves
	Partition     int       `json:"partition"`
	Generation    uint64    `json:"generation"` // each cleanup begins a new one
	CreatedAt     time.Time `json:"created_at"`
	LastActivity  time.Time `json:"last_activity"`
	Expired       bool      `json:"expired"` // idle for too long: its next job finds its state gone
	Operations    uint64    `json:"operations"`
	ProgramsCount int       `json:"programs_count"`
	StateVersion  uint64    `json:"state_version"`
	StateBytes    int       `json:"state_bytes"`
	Unreadable    string    `json:"unreadable"` // why its record cannot be read; then most of the rest is missing

	Idle time.Duration   `json:"-"`
	Raw  json.RawMessage `json:"-"` // the raw result
}

// SessionDetails is everything about one session.
type SessionDetails struct {
	SessionInfo
	Epoch        uint64           `json:"epoch"`
	LastSequence uint64           `json:"last_sequence"`
	Programs     []SessionProgram `json:"programs"`
	Turns        int              `json:"turns"`     // of conversation
	DataKeys     int              `json:"data_keys"` // that update_session_data wrote
	LM           map[string]any   `json:"lm"`        // its choice of language model
	WaitingJobs  int              `json:"waiting_jobs"`
	Running      *SessionJob      `json:"running"`

	Age           time.Duration `json:"-"`
	OldestWaiting time.Duration `json:"-"` // how long the first waiting job has waited
}

// SessionProgram is a program of a session.
type SessionProgram struct {
	ID             string
	ProgramType    string
	ExecutionCount int64
	CreatedAt      time.Time // zero if it is not known
	LastExecuted   time.Time // zero if it never was
}

// UnmarshalJSON reads the form of contract/sessions.md. Times come from the session's state, which may have been imported: one
// that cannot be read is left out.
func (p *SessionProgram) UnmarshalJSON(b []byte) error {
	var w struct {
		ID             string `json:"id"`
		ProgramType    string `json:"program_type"`
		ExecutionCount int64  `json:"execution_count"`
		CreatedAt      string `json:"created_at"`
		LastExecuted   string `json:"last_executed"`
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	*p = SessionProgram{ID: w.ID, ProgramType: w.ProgramType, ExecutionCount: w.ExecutionCount}
	p.CreatedAt, _ = time.Parse(time.RFC3339, w.CreatedAt)
	p.LastExecuted, _ = time.Parse(time.RFC3339, w.LastExecuted)
	return nil
}

// SessionJob is the job that a session is working on.
type SessionJob struct {
	ID       string    `json:"job"`
	Sequence uint64    `json:"sequence"`
	Attempt  int       `json:"attempt"`
	Status   JobStatus `json:"outcome"` // JobRunning or JobRetrying
}

// SessionFilter chooses sessions. The zero value chooses all.
type SessionFilter struct {
	Prefix string        // of the session id
	Host   string        // that serves the session now
	Idle   time.Duration // not used for so long at least
	Limit  int           // of sessions, 0: no limit
}

// mostPage is the largest page that is requested.
const mostPage = 500

// Sessions lists the sessions that have state or history, those not used for longest first. It reads page by page while the
// loop goes on. One that is used meanwhile may come twice.
func (a *Admin) Sessions(ctx context.Context, f SessionFilter) iter.Seq2[SessionInfo, error] {
	return listed(ctx, f.pages(a), "sessions", func(raw json.RawMessage) (SessionInfo, error) {
		s, err := readSession(raw)
		return s.SessionInfo, err
	})
}

// SessionsPage returns one page of Sessions: at most f.Limit of them, 1 to 500, from a cursor on ("" for the first page). A page may have
// fewer, even none, and a next one.
func (a *Admin) SessionsPage(ctx context.Context, f SessionFilter, cursor string) (Page[SessionInfo], error) {
	return onePage(ctx, f.pages(a), cursor, mostPage, "sessions", func(raw json.RawMessage) (SessionInfo, error) {
		s, err := readSession(raw)
		return s.SessionInfo, err
	})
}

func (f SessionFilter) pages(a *Admin) pages {
	ask := map[string]any{"idle_ms": f.Idle.Milliseconds(), "prefix": f.Prefix}
	if f.Host != "" {
		ask["host"] = f.Host
	}
	return pages{a.c.ask, contract.RPCSessionsList, ask, mostPage, f.Limit}
}

// readSession reads a session as it is listed, or all about it.
func readSession(raw json.RawMessage) (SessionDetails, error) {
	var w struct {
		SessionDetails
		IdleMS          float64 `json:"idle_ms"`
		AgeMS           float64 `json:"age_ms"`
		OldestWaitingMS float64 `json:"oldest_waiting_ms"`
	}
	if err := json.Unmarshal(raw, &w); err != nil {
		return SessionDetails{}, badReply("a session is not the expected JSON: %v", err)
	}
	s := w.SessionDetails
	s.Idle, s.Age, s.OldestWaiting, s.Raw = fromMillis(w.IdleMS), fromMillis(w.AgeMS), fromMillis(w.OldestWaitingMS), raw
	return s, nil
}

// GetSession returns everything about one session. One of which nothing is known is an error of category ErrSession, code
// session_unknown.
func (a *Admin) GetSession(ctx context.Context, session string) (SessionDetails, error) {
	reply, err := a.askSession(ctx, contract.RPCSessionsGet, session)
	if err != nil {
		return SessionDetails{}, err
	}
	return readSession(reply.Result)
}

// ExportSession returns a document from which ImportSession makes the session again.
func (a *Admin) ExportSession(ctx context.Context, session string) (json.RawMessage, error) {
	reply, err := a.askSession(ctx, contract.RPCSessionsExport, session)
	return reply.Result, err
}

func (a *Admin) askSession(ctx context.Context, subject, session string) (Reply, error) {
	if _, err := sessionSubject("", session); err != nil {
		return Reply{}, err
	}
	return a.c.ask(ctx, subject, map[string]any{"session": session})
}

// CleanupSession removes a session's state, after the jobs that it has waiting. It may be repeated.
func (a *Admin) CleanupSession(ctx context.Context, session string, opts ...SessionOption) (Reply, error) {
	return a.sessionJob(ctx, contract.RPCSessionsCleanup, session, nil, opts)
}

// EraseSession removes everything about a session: state, outcomes and dead letters, after the jobs that it has waiting.
// It may be repeated.
func (a *Admin) EraseSession(ctx context.Context, session string, opts ...SessionOption) (Reply, error) {
	return a.sessionJob(ctx, contract.RPCSessionsErase, session, nil, opts)
}

// ImportSession makes an exported document the session's state. A session that has state is left alone (code
// session_not_empty) unless replace is true.
func (a *Admin) ImportSession(ctx context.Context, session string, document json.RawMessage, replace bool, opts ...SessionOption) (Reply, error) {
	if !json.Valid(document) {
		return Reply{}, invalid(CodeBadRequest, "document", "what ExportSession returned", "the document is not JSON")
	}
	return a.sessionJob(ctx, contract.RPCSessionsImport, session, map[string]any{"document": document, "replace": replace}, opts)
}

// sessionJob requests a job that concerns a session as a whole.
func (a *Admin) sessionJob(ctx context.Context, subject, session string, ask map[string]any, opts []SessionOption) (Reply, error) {
	if _, err := sessionSubject("", session); err != nil {
		return Reply{}, err
	}
	r, err := newRequest(session, "", nil, func(r *request) {
		for _, o := range opts {
			o.applySession(r)
		}
	})
	if err != nil {
		return Reply{}, err
	}
	body := map[string]any{"session": session}
	maps.Copy(body, ask)
	if r.body, err = json.Marshal(body); err != nil {
		return Reply{}, invalid(CodeBadRequest, "", "", "the request has no JSON form: %v", err)
	}
	ctx, cancel := bounded(ctx, r.total()+travelTime)
	defer cancel()
	m, err := a.c.request(ctx, r.callMessage(ctx, subject), r.job)
	if err != nil {
		return Reply{}, err
	}
	return readReply(m, r.job)
}

// Adapter keeps programs under ids of the caller's own without naming a session: what a single bridge's adapter did. Nobody
// else's programs are met, because each Adapter has a session to itself, whose id cannot be guessed. Its jobs run one at a time.
type Adapter struct {
	c       *Client
	session string
}

// Adapter makes an Adapter. The client's other methods reach the same programs by its Session.
func (c *Client) Adapter() *Adapter {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails
	return &Adapter{c, "adapter-" + hex.EncodeToString(random)}
}

// Session is the session of the adapter's programs. Any client that has its id can use them; idle for an hour, it is dropped.
func (a *Adapter) Session() string { return a.session }

// CreateProgram keeps a program; config is the arguments of create_program. The result is the id that config gives it.
func (a *Adapter) CreateProgram(ctx context.Context, config Args, opts ...CallOption) (id string, err error) {
	reply, err := a.c.Execute(ctx, a.session, "create_program", config, opts...)
	if err != nil {
		return "", err
	}
	if err := reply.Decode(&id); err != nil {
		return "", badReply("the id of the program is not the expected JSON: %v", err)
	}
	return id, nil
}

// ExecuteProgram runs a program. The reply's outputs are under the key outputs of its result.
func (a *Adapter) ExecuteProgram(ctx context.Context, id string, inputs map[string]any, opts ...CallOption) (Reply, error) {
	return a.c.Execute(ctx, a.session, "execute_program", Args{"program_id": id, "inputs": inputs}, opts...)
}

// Close removes the programs.
func (a *Adapter) Close(ctx context.Context) error {
	_, err := a.c.Execute(ctx, a.session, "cleanup_session", nil)
	return err
}
