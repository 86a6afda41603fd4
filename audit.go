package dspex

import (
	"context"
	"encoding/json"
	"iter"
	"time"

	"github.com/dspex/dspex/internal/contract"
)

// AuditRecord is what the audit trail keeps of one request of an operator, or of one that was refused for lack of the role.
type AuditRecord struct {
	Sequence   uint64    `json:"sequence"`
	At         time.Time `json:"at"`
	Dispatcher string    `json:"dispatcher"` // that served it
	Action     string    `json:"action"`     // such as hosts.drain or call.set_lm
	Role       string    `json:"role"`       // operator, tenant or client
	Who        AuditWho  `json:"who"`        // zero on a broker without accounts
	Tenant     string    `json:"tenant"`

	Args       map[string]any `json:"args"` // only names, numbers and choices
	BodyBytes  int            `json:"body_bytes"`
	BodySHA256 string         `json:"body_sha256"` // of the whole request
	Outcome    string         `json:"outcome"`     // accepted or refused
	Error      *struct {      // why it was refused
		Category ErrorCategory `json:"error_category"`
		Code     string        `json:"code"`
	} `json:"error"`
	Job string `json:"job"` // that it became

	Raw json.RawMessage `json:"-"` // the raw result
}

// AuditWho is the broker's information about the requester.
type AuditWho struct {
	Account string `json:"account"`
	User    string `json:"user"`
	Name    string `json:"name"` // of the connection
	Host    string `json:"host"`
}

// AuditFilter chooses records. Its zero value lists all.
type AuditFilter struct {
	Action    string
	Tenant    string
	Role      string // operator, tenant or client
	NewerThan time.Duration
	Follow    bool // keep returning new ones until the context ends
}

// auditPause is how often new records are looked for.
const auditPause = time.Second

// Audit lists operators' actions, the oldest first. It reads page by page while the loop goes on; with Follow it ends with the context.
func (a *Admin) Audit(ctx context.Context, f AuditFilter) iter.Seq2[AuditRecord, error] {
	ask := chosen(false, 0, f.NewerThan, map[string]string{"action": f.Action, "tenant": f.Tenant, "role": f.Role})
	ask["limit"] = 500
	return func(yield func(AuditRecord, error) bool) {
		for {
			page, err := a.auditPage(ctx, ask)
			if err != nil {
				yield(AuditRecord{}, err)
				return
			}
			for _, raw := range page.Records {
				r := AuditRecord{Raw: raw}
				if err := json.Unmarshal(raw, &r); err != nil {
					yield(r, badReply("an audit record is not the expected JSON: %v", err))
					return
				}
				if !yield(r, nil) {
					return
				}
			}
			if page.Cursor != "" {
				ask["cursor"] = page.Cursor
			}
			switch {
			case page.More:
				continue
			case !f.Follow:
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(auditPause):
			}
		}
	}
}

type auditAnswer struct {
	Records []json.RawMessage
	Cursor  string
	More    bool
}

func (a *Admin) auditPage(ctx context.Context, ask map[string]any) (page auditAnswer, err error) {
	reply, err := a.c.ask(ctx, contract.RPCAuditList, ask)
	if err != nil {
		return page, err
	}
	if err := reply.Decode(&page); err != nil {
		return page, badReply("the audit trail is not the expected JSON: %v", err)
	}
	return page, nil
}
