package pyproc

import (
	"slices"
	"time"
)

// State is the situation of one supervisor and of its worker.
type State uint8

// The states, in the order in which a process has them.
const (
	Empty       State = iota // before Run, after Run
	Spawning                 // the process is being started
	Handshake                // it runs; HELLO is due
	Warming                  // INIT is sent; it imports; READY is due
	Spare                    // ready, in reserve: takes no calls
	Idle                     // no slot is taken
	Busy                     // some slots are taken
	Cancelling               // a call was given up and has not been answered yet
	Draining                 // is replaced, not needed, or sent BYE: takes no new calls, finishes the old ones
	Stopping                 // SHUTDOWN is sent
	Dumping                  // it hangs: requested its stacks, SIGKILL follows
	Killing                  // SIGKILL is sent to its group
	Exited                   // dead and reaped, its calls are failed
	Backoff                  // waits before the next start
	Quarantined              // failed to start too often: waits long, and Checkout fails instead of waiting with it
)

const numStates = int(Quarantined) + 1

var stateNames = [...]string{
	Empty: "empty", Spawning: "spawning", Handshake: "handshake", Warming: "warming", Spare: "spare", Idle: "idle", Busy: "busy",
	Cancelling: "cancelling", Draining: "draining", Stopping: "stopping", Dumping: "dumping", Killing: "killing", Exited: "exited",
	Backoff: "backoff", Quarantined: "quarantined",
}

// String returns the state's name in lower case.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// edges are the legal transitions. Every state with a process may lead to Exited: processes die when they like.
var edges = [...][]State{
	Empty:       {Spawning},
	Spawning:    {Handshake, Exited},
	Handshake:   {Warming, Killing, Exited},
	Warming:     {Idle, Spare, Dumping, Killing, Exited},
	Spare:       {Idle, Draining, Stopping, Dumping, Killing, Exited},
	Idle:        {Busy, Spare, Draining, Stopping, Dumping, Killing, Exited},
	Busy:        {Idle, Cancelling, Draining, Stopping, Dumping, Killing, Exited},
	Cancelling:  {Idle, Busy, Draining, Stopping, Dumping, Killing, Exited},
	Draining:    {Stopping, Dumping, Killing, Exited},
	Stopping:    {Killing, Exited},
	Dumping:     {Killing, Exited},
	Killing:     {Exited},
	Exited:      {Backoff, Quarantined, Empty},
	Backoff:     {Spawning, Empty},
	Quarantined: {Spawning, Empty},
}

// Edge is a legal transition.
type Edge struct{ From, To State }

// Edges lists all legal transitions.
func Edges() []Edge {
	var all []Edge
	for from := range edges {
		for _, to := range edges[from] {
			all = append(all, Edge{State(from), to})
		}
	}
	return all
}

// Serving reports whether a worker in this state takes calls.
func (s State) Serving() bool { return s == Idle || s == Busy || s == Cancelling }

func (s State) leadsTo(next State) bool { return slices.Contains(edges[s], next) }

// Event is one edge of a worker's states. Idle to Busy and back are not reported: they are every call's.
type Event struct {
	At       time.Time
	Worker   string // "<host>/<n>"
	ID       uint64 // of the incarnation; 0 while there is none
	PID      int    // 0 while there is none
	From, To State
	Err      error // why, when something went wrong
}
