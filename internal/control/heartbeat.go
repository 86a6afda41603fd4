package control

// Heartbeat is what a host reports every second on dspex.hb.<host> (contract/job.md). A host of another release may have
// fewer fields.
type Heartbeat struct {
	Host           string         `json:"host"`
	Incarnation    string         `json:"incarnation"`
	Started        int64          `json:"started"`                 // unix ms, by the broker's clock
	HighestEpoch   uint64         `json:"highest_epoch,omitempty"` // that it has ever received
	Capacity       int            `json:"capacity"`
	Free           int            `json:"free"`
	Workers        int            `json:"workers"`
	Active         int            `json:"active"`
	Available      int            `json:"available"`
	Overflow       int            `json:"overflow,omitempty"` // workers that serve above Workers
	Requests       int64          `json:"requests"`
	Errors         int64          `json:"errors"`
	Requested      int64          `json:"requested"` // of the errors: those whose reason is the request, or its cancellation
	RunMillis      int64          `json:"run_ms"`
	Ran            int64          `json:"ran,omitempty"`           // attempts that have ended in a slot
	WaitingCalls   int64          `json:"waiting_calls,omitempty"` // calls that could run here if there were slots: of each session the first
	WaitingJobs    int64          `json:"waiting_jobs,omitempty"`  // the same of published jobs
	Deep           map[string]int `json:"deep,omitempty"`          // session -> jobs that wait in it: 64 of those in which a call waits behind many
	Sessions       int64          `json:"sessions"`
	Engine         string         `json:"engine,omitempty"`
	Sandbox        string         `json:"sandbox,omitempty"` // what its workers are kept from
	Version        string         `json:"version,omitempty"` // of its program
	Full           bool           `json:"full,omitempty"`    // the broker's store has no room: the host has stopped running jobs
	Hits           int64          `json:"hits"`              // session jobs that ran where their session was warm
	Misses         int64          `json:"misses"`            // whose session was warm nowhere
	Moves          int64          `json:"moves"`             // whose session was warm in a worker that had no free slot
	IdleMillis     int64          `json:"idle_ms"`           // how long it keeps an idle session
	CheckoutMillis int64          `json:"checkout_ms"`       // how long a call may wait for a slot

	Breakers []string       `json:"breakers,omitempty"`     // those that are open, 16 at most
	Blocked  map[string]int `json:"stuck,omitempty"`        // step -> jobs that are blocked at it
	Running  int64          `json:"running,omitempty"`      // calls in workers
	Stalled  int64          `json:"stalled_ms,omitempty"`   // nothing was finished for so long, though there is work
	Busy     map[int]int    `json:"busy,omitempty"`         // partition -> sessions with work
	ClockOff *int64         `json:"clock_off_ms,omitempty"` // its machine's wall clock less the broker's, ms
	Releases bool           `json:"releases"`               // understands dspex.ctl.<host>.release
	Shards   bool           `json:"slots"`                  // serves partitions of several shards
	Stopping bool           `json:"stopping,omitempty"`     // it finishes what runs and gives its partitions back
	Leaving  bool           `json:"leaving,omitempty"`      // the last beat

	Tenants map[string]TenantCount `json:"tenants,omitempty"` // where they have accounts; only in answers
	Latency map[string]Latencies   `json:"latency,omitempty"` // mode -> jobs that ended since the start; only in answers
}

// Latencies count jobs by how long they took, from their acceptance to their end: [the longest time in ms, how many took no longer and
// longer than the entry before], in the order of the times. What no job took has no entry.
type Latencies [][2]float64

// TenantCount is what a tenant had and has on a host: jobs that ended since its start, and sessions and their jobs in memory.
type TenantCount struct {
	Requests  int64 `json:"requests,omitempty"`
	Errors    int64 `json:"errors,omitempty"`
	RunMillis int64 `json:"run_ms,omitempty"`
	Sessions  int64 `json:"sessions,omitempty"`
	Jobs      int64 `json:"jobs,omitempty"` // of sessions: that wait or run
}
