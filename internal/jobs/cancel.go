package jobs

// Cancel is what a dispatcher asks the hosts on dspex.ctl.<host>.cancel.
type Cancel struct {
	Session string `json:"session,omitempty"` // empty: an anonymous job
	Job     string `json:"job"`
}

// Drop tells hosts on dspex.ctl.drop that a session was erased.
type Drop struct {
	Session string `json:"session"`
}

// CancelVerdict is a host's answer to a Cancel.
type CancelVerdict string

// The verdicts.
const (
	CancelUnderway CancelVerdict = "underway" // its outcome is stored, or will be very soon
	CancelUnknown  CancelVerdict = "unknown"  // this host neither runs nor holds the job
	CancelBusy     CancelVerdict = "busy"     // ask again
)
