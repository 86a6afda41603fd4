package pyproc

import (
	"slices"
	"time"
)

// Stats is a picture of the pool at one moment.
type Stats struct {
	Size      int           // that there should be
	Serving   int           // workers that take calls; more than Size in a burst
	Overflow  int           // of these, those above Size
	Active    int           // slots that are taken
	Available int           // slots that are free
	Waiting   int           // Checkouts that wait
	Recycled  int           // workers replaced because they were due
	Workers   []WorkerStats // of every supervisor in use, and of the first Size ones
	Edges     []EdgeCount   // how often the states changed, all workers together
}

// EdgeCount counts one edge of the states, Idle to Busy and back included.
type EdgeCount struct {
	From, To State
	N        uint64
}

// WorkerStats is a picture of one supervisor. Fields of the process are zero while there is none.
type WorkerStats struct {
	ID              uint64 // of the incarnation
	Name            string
	PID             int
	Engine          string
	EngineVersion   string
	Python          string
	RuntimeVersion  string
	RuntimeHash     string
	Commands        []string
	Exclusive       []string // commands that run alone: check out with Alone
	State           State
	Slots           int
	InFlight        int // slots that are taken
	Jobs            uint64
	RSS             uint64 // bytes, as of READY or the last PONG
	StartedAt       time.Time
	Restarts        int
	PartialsDropped uint64 // a reader of partial output was too slow
	LastError       string // of the last start or end that went wrong, "" since READY
}

// Free returns the number of slots that a Checkout would get at once.
func (p *Pool) Free() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.freeLocked()
}

// Exclusive reports whether a worker reported that the command has to run alone in its worker.
func (p *Pool) Exclusive(command string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.supervisors {
		if s.w != nil && s.w.open && slices.Contains(s.w.ready.Exclusive, command) {
			return true
		}
	}
	return false
}

// Stats returns a picture of the pool.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := Stats{Size: p.limits.Size, Waiting: p.waitingLocked(), Recycled: p.recycled, Serving: p.censusLocked().serving}
	st.Overflow = max(0, st.Serving-st.Size)
	for from := range p.edges {
		for to, n := range p.edges[from] {
			if n > 0 {
				st.Edges = append(st.Edges, EdgeCount{State(from), State(to), n})
			}
		}
	}
	for n, s := range p.supervisors {
		if n >= p.limits.Size && s.state == Empty {
			continue
		}
		ws := s.statsLocked()
		st.Active += ws.InFlight
		st.Available += s.freeLocked()
		st.Workers = append(st.Workers, ws)
	}
	return st
}

func (s *supervisor) statsLocked() WorkerStats {
	ws := WorkerStats{Name: s.name, State: s.state, Restarts: max(0, s.starts-1)}
	if s.lastErr != nil {
		ws.LastError = s.lastErr.Error()
	}
	w := s.w
	if w == nil {
		return ws
	}
	ws.ID, ws.PID, ws.StartedAt, ws.RSS = w.id, w.Child.PID, w.startedAt, w.rss.Load()
	ws.Slots, ws.InFlight, ws.Jobs, ws.PartialsDropped = w.slots, w.used, w.jobs.Load(), w.dropped.Load()
	ws.Engine, ws.EngineVersion = w.ready.Engine, w.ready.EngineVersion
	ws.Commands, ws.Exclusive = w.ready.Commands, w.ready.Exclusive
	ws.Python, ws.RuntimeVersion, ws.RuntimeHash = w.hello.Python, w.hello.RuntimeVersion, w.hello.RuntimeHash
	return ws
}
