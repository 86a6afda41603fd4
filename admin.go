package dspex

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/contract"
)

// Admin has the operations of operators: sessions, dead letters, hosts, circuit breakers, and operators' commands. Its requests
// need permissions that clients may not have.
type Admin struct{ c *Client }

// Admin returns the operators' side of the client. It uses the same connection.
func (c *Client) Admin() *Admin { return &Admin{c} }

// Tenant returns a client of the same connection whose requests are about a tenant's jobs, sessions, batches and dead letters, and whose
// numbers are that tenant's. It needs the permissions of an operator of a broker with accounts. It cannot submit jobs.
func (a *Admin) Tenant(name string) *Client {
	return &Client{nc: a.c.nc, js: a.c.js, prefix: a.c.prefix, domain: a.c.domain, tenant: name, traceparent: a.c.traceparent}
}

// nameTenant puts the tenant that a request is about into its message.
func (c *Client) nameTenant(m *nats.Msg) {
	if c.tenant != "" {
		m.Header.Set(contract.HeaderTenant, c.tenant)
	}
}

// Execute is Client.Execute with the operator's role: every command may be used, such as shutdown.
func (a *Admin) Execute(ctx context.Context, session, command string, args Args, opts ...CallOption) (Reply, error) {
	subject, err := sessionSubject(contract.RPCAdminSession, session)
	if err != nil {
		return Reply{}, err
	}
	return a.c.call(ctx, subject, session, command, args, opts)
}

// ExecuteAnonymous is Client.ExecuteAnonymous with the operator's role.
func (a *Admin) ExecuteAnonymous(ctx context.Context, command string, args Args, opts ...CallOption) (Reply, error) {
	subject, session, err := anonymously(contract.RPCAdminAnonymous, contract.RPCAdminSession, command, args)
	if err != nil {
		return Reply{}, err
	}
	return a.c.call(ctx, subject, session, command, args, opts)
}

// HostState is the state of a host.
type HostState string

// The states of hosts.
const (
	HostServing  HostState = "serving"
	HostDraining HostState = "draining" // drained, but still owns partitions
	HostDrained  HostState = "drained"  // it holds none
	HostStopping HostState = "stopping" // it got SIGTERM and finishes what runs
	HostGone     HostState = "gone"     // not alive, but owns partitions or is marked as drained
)

// HostInfo is a worker-host. The numbers of one that is gone are not known.
type HostInfo struct {
	Host             string    `json:"host"`
	State            HostState `json:"state"`
	Drain            bool      `json:"drain"` // drained until it is resumed
	Partitions       int       `json:"partitions"`
	Incarnation      string    `json:"incarnation"`
	Engine           string    `json:"engine"`
	Sandbox          string    `json:"sandbox"`  // level of its workers: "none", "user" or "strict"
	Version          string    `json:"version"`  // of its program; "" of an earlier release, and of a host that is gone
	Capacity         int       `json:"capacity"` // slots
	Free             int       `json:"free"`
	PoolSize         int       `json:"pool_size"`
	ActiveWorkers    int       `json:"active_workers"`
	AvailableWorkers int       `json:"available_workers"`
	OverflowWorkers  int       `json:"overflow_workers"` // that serve above PoolSize
	ActiveSessions   int64     `json:"active_sessions"`  // in memory
	BusySessions     int64     `json:"busy_sessions"`    // with work
	TotalRequests    int64     `json:"total_requests"`
	TotalErrors      int64     `json:"total_errors"`
	AffinityHits     int64     `json:"affinity_hits"`   // jobs that ran where their session was warm
	AffinityMisses   int64     `json:"affinity_misses"` // whose session was warm nowhere
	AffinityMoves    int64     `json:"affinity_moves"`  // whose session was warm in a worker without a free slot
	ClockOff         *int64    `json:"clock_off_ms"`    // its wall clock less the broker's, ms; nil while it is not known

	Latency map[string][]LatencyBucket `json:"latency"` // of "call" and "queue", jobs that have ended here by how long they took; nil while that is not known
}

// LatencyBucket is how many jobs of a host took at most Upper, from their acceptance to their end, and longer than the bucket before. The
// difference of two reads is what ended between them.
type LatencyBucket struct {
	Upper time.Duration
	Jobs  int64
}

// MarshalJSON writes what UnmarshalJSON reads.
func (b LatencyBucket) MarshalJSON() ([]byte, error) {
	return json.Marshal([2]float64{float64(b.Upper) / float64(time.Millisecond), float64(b.Jobs)})
}

// UnmarshalJSON reads a pair of milliseconds and jobs.
func (b *LatencyBucket) UnmarshalJSON(raw []byte) error {
	var pair [2]float64
	if err := json.Unmarshal(raw, &pair); err != nil {
		return fmt.Errorf("a bucket must be [milliseconds, jobs]: %w", err)
	}
	b.Upper, b.Jobs = fromMillis(pair[0]), int64(pair[1])
	return nil
}

// Hosts are the worker-hosts and who assigns the partitions to them.
type Hosts struct {
	Hosts      []HostInfo      `json:"hosts"`
	Partitions int             `json:"partitions"`
	Unassigned int             `json:"unassigned"` // partitions without an owner at the moment
	Leader     string          `json:"leader"`     // the dispatcher that assigns them
	Raw        json.RawMessage `json:"-"`          // the raw result
}

// Hosts lists the worker-hosts, measured now.
func (a *Admin) Hosts(ctx context.Context) (Hosts, error) {
	reply, err := a.c.ask(ctx, contract.RPCHostsList, struct{}{})
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
func (a *Admin) DrainHost(ctx context.Context, host string) error {
	_, err := a.c.ask(ctx, contract.RPCHostsDrain, map[string]any{"host": host})
	return err
}

// ResumeHost lets a drained host serve again.
func (a *Admin) ResumeHost(ctx context.Context, host string) error {
	_, err := a.c.ask(ctx, contract.RPCHostsResume, map[string]any{"host": host})
	return err
}

// HostReload is what a host has done with its settings when it read them again.
type HostReload struct {
	Host    string          `json:"host"`
	File    string          `json:"file"`    // of settings; "": it has none
	Taken   []SettingChange `json:"taken"`   // in force from now on
	Restart []SettingChange `json:"restart"` // the earlier values stay in force until a restart
	Faults  []string        `json:"faults"`  // what is wrong with the settings; then nothing was taken over
}

// SettingChange is a setting that has changed. Values that are texts, which may be secret, are left out.
type SettingChange struct {
	Key string `json:"key"`
	Was string `json:"was"`
	Is  string `json:"is"`
	Why string `json:"why"` // it needs a restart
}

// ReloadHosts has a host ("": all live ones) read its file of settings again, as SIGHUP does: the size of its pool, LM profiles,
// thresholds and timeouts change without a restart.
func (a *Admin) ReloadHosts(ctx context.Context, host string) ([]HostReload, error) {
	body := map[string]any{}
	if host != "" {
		body["host"] = host
	}
	reply, err := a.c.ask(ctx, contract.RPCHostsReload, body)
	if err != nil {
		return nil, err
	}
	var answer struct{ Hosts []HostReload }
	if err := reply.Decode(&answer); err != nil {
		return nil, badReply("the list of hosts is not the expected JSON: %v", err)
	}
	return answer.Hosts, nil
}

// BreakerState is the state of a circuit breaker.
type BreakerState string

// The states of circuit breakers.
const (
	BreakerClosed   BreakerState = "closed"    // every job may start
	BreakerOpen     BreakerState = "open"      // calls fail at once, submitted jobs wait
	BreakerHalfOpen BreakerState = "half_open" // a few jobs pass, as a trial
)

// BreakerFailure is the last failure that a circuit breaker counted.
type BreakerFailure struct {
	What string    `json:"what"` // category/code
	At   time.Time `json:"at"`
}

// BreakerConfig are the thresholds of a circuit breaker.
type BreakerConfig struct {
	FailureThreshold int           // failures in a row that open it
	SuccessThreshold int           // successes in a row that close it
	Timeout          time.Duration // until an open one allows a trial
}

// Breaker is the state of a circuit breaker, over all hosts.
type Breaker struct {
	Name            string
	State           BreakerState
	FailureCount    int             // failures in a row; of an open one those that opened it
	SuccessCount    int             // successes in a row since it is half-open
	HalfOpenCount   int             // trials that run now
	LastFailure     *BreakerFailure // nil: none was seen
	LastStateChange time.Time       // zero: it has not changed
	RetryIn         time.Duration   // until an open one allows a trial
	Config          BreakerConfig
	Raw             json.RawMessage // the raw result
}

// Breakers lists the circuit breakers of each host's workers, of their starts, and of the language models that were used.
func (a *Admin) Breakers(ctx context.Context) ([]Breaker, error) {
	reply, err := a.c.ask(ctx, contract.RPCBreakersList, struct{}{})
	if err != nil {
		return nil, err
	}
	var w struct{ Breakers []json.RawMessage }
	if err := reply.Decode(&w); err != nil {
		return nil, badReply("the list of circuit breakers is not the expected JSON: %v", err)
	}
	list := make([]Breaker, len(w.Breakers))
	for i, raw := range w.Breakers {
		if list[i], err = readBreaker(raw); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// ResetBreaker closes a circuit breaker on all hosts and resets its failures.
func (a *Admin) ResetBreaker(ctx context.Context, name string) (Breaker, error) {
	reply, err := a.c.ask(ctx, contract.RPCBreakersReset, map[string]any{"name": name})
	if err != nil {
		return Breaker{}, err
	}
	return readBreaker(reply.Result)
}

func readBreaker(raw json.RawMessage) (Breaker, error) {
	var w struct {
		Name            string          `json:"name"`
		State           BreakerState    `json:"state"`
		FailureCount    int             `json:"failure_count"`
		SuccessCount    int             `json:"success_count"`
		HalfOpenCount   int             `json:"half_open_count"`
		LastFailure     *BreakerFailure `json:"last_failure"`
		LastStateChange time.Time       `json:"last_state_change"`
		TimeUntilRetry  float64         `json:"time_until_retry"` // ms
		Config          struct {
			FailureThreshold int     `json:"failure_threshold"`
			SuccessThreshold int     `json:"success_threshold"`
			Timeout          float64 `json:"timeout"` // ms
		} `json:"config"`
	}
	if err := json.Unmarshal(raw, &w); err != nil || w.Name == "" {
		return Breaker{}, badReply("the answer about a circuit breaker is not the expected JSON")
	}
	return Breaker{
		Name: w.Name, State: w.State, FailureCount: w.FailureCount, SuccessCount: w.SuccessCount, HalfOpenCount: w.HalfOpenCount,
		LastFailure: w.LastFailure, LastStateChange: w.LastStateChange, RetryIn: fromMillis(w.TimeUntilRetry), Raw: raw,
		Config: BreakerConfig{w.Config.FailureThreshold, w.Config.SuccessThreshold, fromMillis(w.Config.Timeout)},
	}, nil
}

// ForeignConsumer is a consumer of the queues of jobs that is not dspex's: it takes jobs away, or keeps a partition from being
// served.
type ForeignConsumer struct {
	Stream   string   `json:"stream"`
	Consumer string   `json:"consumer"`
	Filters  []string `json:"filters"` // subjects
}

// Consumers lists the consumers of others on the queues of jobs. Health names them, too.
func (a *Admin) Consumers(ctx context.Context) ([]ForeignConsumer, error) {
	reply, err := a.c.ask(ctx, contract.RPCConsumersList, struct{}{})
	if err != nil {
		return nil, err
	}
	var all struct {
		Consumers []ForeignConsumer `json:"consumers"`
	}
	if err := reply.Decode(&all); err != nil {
		return nil, badReply("the list of consumers is not the expected JSON: %v", err)
	}
	return all.Consumers, nil
}

// RemoveConsumer removes a consumer of others. Those of dspex itself are refused.
func (a *Admin) RemoveConsumer(ctx context.Context, stream, consumer string) error {
	_, err := a.c.ask(ctx, contract.RPCConsumersRemove, map[string]any{"stream": stream, "consumer": consumer})
	return err
}

// Partitions is the number of partitions, and the progress of a change.
type Partitions struct {
	Partitions int             `json:"partitions"` // of jobs that are stored from now on
	Serving    int             `json:"serving"`    // that hosts serve: another number while a change goes on
	Changing   bool            `json:"changing"`
	Held       int             `json:"held"`    // partitions from before the change that hosts have not given back
	Waiting    uint64          `json:"waiting"` // jobs from before the change that have no outcome, where they must be served first
	Raw        json.RawMessage `json:"-"`
}

// Partitions returns the number of partitions, and the progress of a change.
func (a *Admin) Partitions(ctx context.Context) (Partitions, error) {
	return a.partitions(ctx, contract.RPCPartitionsGet, struct{}{})
}

// SetPartitions changes the number of partitions. It returns at once: hosts finish what runs and give all partitions back, and what is
// accepted meanwhile waits for that; Partitions reports when the change is over. Nothing is refused or lost.
func (a *Admin) SetPartitions(ctx context.Context, n int) (Partitions, error) {
	return a.partitions(ctx, contract.RPCPartitionsSet, map[string]any{"partitions": n})
}

func (a *Admin) partitions(ctx context.Context, subject string, ask any) (Partitions, error) {
	reply, err := a.c.ask(ctx, subject, ask)
	if err != nil {
		return Partitions{}, err
	}
	p := Partitions{Raw: reply.Result}
	if err := reply.Decode(&p); err != nil {
		return Partitions{}, badReply("the answer about partitions is not the expected JSON: %v", err)
	}
	return p, nil
}
