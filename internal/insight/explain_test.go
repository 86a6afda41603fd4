package insight

import (
	"testing"
	"time"

	"github.com/dspex/dspex"
)

func TestAJobIsExplained(t *testing.T) {
	queued := func(session string) dspex.Job {
		return dspex.Job{JobRef: dspex.JobRef{Session: session, ID: "j1"}, Status: dspex.JobQueued}
	}
	serving := []dspex.HostInfo{{Host: "h1", State: dspex.HostServing, Capacity: 8, Free: 3}, {Host: "h2", State: dspex.HostServing, Capacity: 8}}
	at := func(host string) *dspex.SessionDetails {
		return &dspex.SessionDetails{SessionInfo: dspex.SessionInfo{Host: host, Partition: 7}}
	}
	behind := at("h1")
	behind.Running, behind.WaitingJobs, behind.OldestWaiting = &dspex.SessionJob{ID: "j0", Attempt: 2}, 3, 65*time.Second
	itself := at("h1")
	itself.Running = &dspex.SessionJob{ID: "j1", Attempt: 1}
	broken := func(name string) []dspex.Breaker {
		return []dspex.Breaker{{Name: "pool.h1"}, {Name: name, State: dspex.BreakerOpen, RetryIn: 42 * time.Second, LastFailure: &dspex.BreakerFailure{What: "connection/worker_died"}}}
	}
	for _, row := range []struct {
		name string
		f    Facts
		why  string
	}{
		{"succeeded", Facts{Job: dspex.Job{Status: dspex.JobSucceeded, Attempts: 2}}, "it succeeded in attempt 2"},
		{"failed", Facts{Job: dspex.Job{Status: dspex.JobFailed, Attempts: 3, Err: &dspex.Error{Category: dspex.ErrPython, Code: "user_error", Message: "boom"}}}, "it failed after 3 attempts: python user_error: boom"},
		{"expired", Facts{Job: dspex.Job{Status: dspex.JobExpired, Err: &dspex.Error{Category: dspex.ErrTimeout, Code: "deadline_exceeded", Message: "late"}}}, "it expired after 0 attempts: timeout deadline_exceeded: late"},
		{"cancelled", Facts{Job: dspex.Job{Status: dspex.JobCancelled, Attempts: 1}}, "it was cancelled after 1 attempt"},
		{"running", Facts{Job: dspex.Job{Status: dspex.JobRunning, Attempts: 1}, Session: at("h1")}, "attempt 1 runs on host h1"},
		{"retrying", Facts{Job: dspex.Job{Status: dspex.JobRetrying, Attempts: 1}}, "attempt 1 failed, the next one waits for its delay"},
		{"retry is near", Facts{Job: dspex.Job{Status: dspex.JobRetrying, Attempts: 1, RetryIn: 4001 * time.Millisecond}}, "attempt 1 failed, retry in 5s"},
		{"retrying with its model's breaker open", Facts{Job: dspex.Job{Status: dspex.JobRetrying, Attempts: 1}, Breakers: broken("lm.gpt")}, "attempt 1 failed, and the circuit breaker lm.gpt is open, last because of connection/worker_died"},
		{"behind another", Facts{Job: queued("s"), Session: behind, Hosts: serving}, "the session works on job j0 (attempt 2), and 3 wait, the oldest for 1m05s"},
		{"its own turn", Facts{Job: queued("s"), Session: itself, Hosts: serving}, "nothing holds it: 3 of 8 slots of host h1 are free"},
		{"partition moves", Facts{Job: queued("s"), Session: at(""), Hosts: serving}, "no host serves the session at the moment: its partition 7 moves"},
		{"nobody alive", Facts{Job: queued("s"), Session: at(""), Hosts: []dspex.HostInfo{{Host: "h1", State: dspex.HostGone}}}, "no worker-host is alive"},
		{"no permission", Facts{Job: queued("s")}, "it waits for its turn in the session, or for a free worker"},
		{"breaker of its host", Facts{Job: queued("s"), Session: at("h1"), Hosts: serving, Breakers: broken("pool.h1")}, "the circuit breaker pool.h1 is open, last because of connection/worker_died"},
		{"breaker of another host", Facts{Job: queued("s"), Session: at("h1"), Hosts: serving, Breakers: broken("pool.h2")}, "nothing holds it: 3 of 8 slots of host h1 are free"},
		{"host is full", Facts{Job: queued("s"), Session: at("h2"), Hosts: serving}, "all 8 slots of host h2 are busy"},
		{"host drains", Facts{Job: queued("s"), Session: at("h3"), Hosts: append(serving, dspex.HostInfo{Host: "h3", State: dspex.HostDraining})}, "host h3 takes no new work: it drains or stops"},
		{"anonymous", Facts{Job: queued(""), Hosts: serving}, "nothing holds it: 3 of 16 slots of the hosts are free"},
		{"anonymous, one host's breaker", Facts{Job: queued(""), Hosts: serving, Breakers: broken("pool.h1")}, "nothing holds it: 3 of 16 slots of the hosts are free"},
		{"anonymous, full", Facts{Job: queued(""), Hosts: serving[1:]}, "all 8 slots of the hosts are busy"},
		{"anonymous, no permission", Facts{Job: queued("")}, "it waits for a free worker"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := Explain(row.f).Why; got != row.why {
				t.Errorf("got %q, expected %q", got, row.why)
			}
		})
	}
}
