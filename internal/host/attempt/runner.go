package attempt

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/dspex/internal/host/breakers"
	"github.com/dspex/dspex/internal/host/provision"
	"github.com/dspex/dspex/internal/host/telemetry"
	"github.com/dspex/dspex/internal/host/tokens"
	"github.com/dspex/dspex/internal/host/workers"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// Runner makes the attempts of a host.
type Runner struct {
	Host        string
	On          *stream.Access
	Pool        workers.Pool
	Models      provision.Models
	Provision   *provision.Provision
	Breakers    *breakers.Shared
	Telemetry   *telemetry.Recorder
	StandsAside func() bool // anonymous jobs are left to other hosts
	OnEnded     func(Ended) // is called after each attempt; nil: nobody looks

	ends      ends
	speaks    sync.Map // command -> true: those of the operator that were seen to call a language model, as many as the workers' tables have
	silent    sync.Map // program id -> true: those of the operator whose last run called no model; a session's own always do
	exclusive sync.Map // command -> true: those that a worker has reported to run alone, as many as its table has
	waiting   [tokens.Kinds]atomic.Int64
}

// Ended is an attempt that is over.
type Ended struct {
	Session, Job, Command string
	Program               string // that execute_program named
	Attempt               int
	Worker                string
	Ran                   time.Duration
	Error                 *jobs.Error // nil: it succeeded
}

// ends are the ends of workers, and the failed starts, that have been counted: one is one failure, whoever was in it or waited.
type ends struct {
	mu      sync.Mutex
	workers map[uint64]bool
	start   error
}

// mostEnds bounds the workers that are kept; who comes so late counts once more.
const mostEnds = 1024

// first reports whether the end of a worker is news.
func (e *ends) first(worker uint64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.workers == nil || len(e.workers) >= mostEnds {
		e.workers = map[uint64]bool{}
	}
	seen := e.workers[worker]
	e.workers[worker] = true
	return !seen
}

// firstStart reports whether a failed start is news.
func (e *ends) firstStart(cause error) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	seen := cause != nil && errors.Is(e.start, cause)
	e.start = cause
	return !seen
}
