package jobs

import "cmp"

// Cancel is the request of a dispatcher to the hosts on dspex.ctl.<host>.cancel.
type Cancel struct {
	Tenant  string `json:"tenant,omitempty"`  // empty: default
	Session string `json:"session,omitempty"` // empty: an anonymous job
	Job     string `json:"job"`
}

// Ref is the job's session.
func (c Cancel) Ref() SessionRef { return SessionRef{cmp.Or(c.Tenant, DefaultTenant), c.Session} }

// Drop notifies hosts on dspex.ctl.drop that a session was erased.
type Drop struct {
	Tenant  string `json:"tenant,omitempty"` // empty: default
	Session string `json:"session"`
}

// Ref is the session.
func (d Drop) Ref() SessionRef { return SessionRef{cmp.Or(d.Tenant, DefaultTenant), d.Session} }

// CancelVerdict is a host's answer to a Cancel.
type CancelVerdict string

// The verdicts.
const (
	CancelUnderway CancelVerdict = "underway" // its outcome is stored, or will be very soon
	CancelUnknown  CancelVerdict = "unknown"  // this host neither runs nor holds the job
	CancelBusy     CancelVerdict = "busy"     // retry
)
