// Command dispatcher is the control plane: request endpoints, outcomes, health, and the assignment of partitions to worker-hosts.
// Any number of dispatchers may run; one leads.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/spf13/pflag"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/config"
	"github.com/dspex/dspex/internal/daemon"
	"github.com/dspex/dspex/internal/dispatch"
	"github.com/dspex/dspex/internal/fair"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/link"
	"github.com/dspex/dspex/internal/stream"
)

func main() { os.Exit(run()) }

// run is main with an exit status, so that tests can start it in a process of their own.
func run() int { return daemon.Main(program(), os.Getenv) }

func program() daemon.Program {
	o := &options{}
	return daemon.Program{
		Name:  "dispatcher",
		Short: "The control plane of dspex: answers requests and assigns sessions to worker-hosts",
		Long: `It makes the streams and buckets in the broker, serves requests on dspex.rpc.>, and, while it leads, assigns the partitions of
the sessions to live worker-hosts. Any number may run; published jobs are served even with all of them down.

It writes one line "ready URL" once a worker-host serves every partition.`,
		Flags: o.declare, Check: o.check, Run: o.run, Reload: o.reload, Health: health,
	}
}

type options struct {
	name                  string
	partitions, replicas  int
	sessionQueue          int64
	jobsSize, resultsSize daemon.Size
	deadSize, batchesSize daemon.Size
	objectsSize           daemon.Size
	objectMax             daemon.Size
	tenantObjects         daemon.Size
	resultsMinAge         time.Duration
	accounts, pooling     bool
	quotas                string
	alerts                dispatch.Alerts
	weights               fair.Weights

	live atomic.Pointer[dispatch.Dispatcher]
}

func (o *options) declare(f *pflag.FlagSet) {
	f.StringVar(&o.name, "name", daemon.Hostname(), "name of this dispatcher, unique in the deployment")
	f.IntVar(&o.partitions, "partitions", 0, "partitions of a new deployment; \"dspex partitions\" changes them later (0: 64, or what it has)")
	f.IntVar(&o.replicas, "replicas", 1, "replicas of new streams and buckets: 1, 3 or 5")
	f.Int64Var(&o.sessionQueue, "session-queue", 256, "bound on the waiting jobs of one session in a new deployment, for published jobs and for calls each")
	f.Var(&o.jobsSize, "jobs-size", "room for waiting jobs, for session jobs and anonymous jobs each (default: what it has; a new deployment gets 4GiB)")
	f.Var(&o.resultsSize, "results-size", "room for outcomes (default: what it has; a new deployment gets 4GiB)")
	f.DurationVar(&o.resultsMinAge, "results-min-age", 0, "outcomes older than this are deleted early when their room is nearly used up, 15m to 24h (0: never, jobs wait for room instead)")
	f.Var(&o.deadSize, "dlq-size", "room for dead letters; the oldest are deleted first (default: what it has; a new deployment gets 1GiB)")
	f.Var(&o.batchesSize, "batches-size", "room for the jobs and outcomes of batches (default: what it has; a new deployment gets 2GiB)")
	f.Var(&o.objectsSize, "objects-size", "room for large results and arguments (default: what it has; a new deployment gets 1GiB)")
	f.Var(&o.objectMax, "object-max", "bound on one large result, and on one job's large arguments (default: what it has; a new deployment gets 8MiB)")
	f.Var(&o.tenantObjects, "tenant-objects", "bound on all large results and arguments of one tenant (default: what it has; a new deployment gets 256MiB)")
	f.BoolVar(&o.accounts, "accounts", false, "clients have accounts of their own, one for each tenant, as in nats.conf; this cannot be undone")
	f.StringVar(&o.quotas, "tenant-quotas", "", "JSON file of the tenants' limits: {\"*\": {\"jobs\": 1000, \"sessions\": 10000}}; read again when it changes")
	f.Var(&o.weights, "tenant-weights", "shares of tenants while several have jobs waiting, such as acme=3,beta=2: 1 to 100; one that is not named has 1")
	config.PoolingFlag(f, &o.pooling)
	o.alerts.Flags(f)
}

func (o *options) check(*daemon.Surroundings) error {
	var wrong []error
	if !jobs.ValidSession(o.name) {
		wrong = append(wrong, fmt.Errorf("--name must have 1 to 64 of A-Z a-z 0-9 _ -, got %q", o.name))
	}
	if o.partitions < 0 || o.partitions > maxPartitions {
		wrong = append(wrong, fmt.Errorf("--partitions must be 1 to %d, got %d", maxPartitions, o.partitions))
	}
	if o.replicas != 1 && o.replicas != 3 && o.replicas != 5 {
		wrong = append(wrong, fmt.Errorf("--replicas must be 1, 3 or 5, got %d", o.replicas))
	}
	if o.sessionQueue < 1 || o.sessionQueue > maxSessionQueue {
		wrong = append(wrong, fmt.Errorf("--session-queue must be 1 to %d, got %d", maxSessionQueue, o.sessionQueue))
	}
	if o.resultsMinAge != 0 && (o.resultsMinAge < leastAge || o.resultsMinAge > mostAge) {
		wrong = append(wrong, fmt.Errorf("--results-min-age must be 0, or %v to %v, got %v", leastAge, mostAge, o.resultsMinAge))
	}
	if o.quotas != "" {
		if !o.accounts {
			wrong = append(wrong, errors.New("--tenant-quotas needs --accounts: without accounts there are no tenants"))
		}
		if _, err := dispatch.ReadQuotas(o.quotas); err != nil {
			wrong = append(wrong, fmt.Errorf("--tenant-quotas: %w", err))
		}
	}
	return errors.Join(append(wrong, o.alerts.Check())...)
}

// Bounds: a stream has at most 1000 consumers by the broker's default, four times the partitions are allowed for. The jobs of one session
// must leave room for others among those that a partition's consumer may have out.
const (
	maxPartitions   = 250
	maxSessionQueue = stream.MaxAckPending / 16
)

// Bounds of --results-min-age: outcomes of calls are kept for the one, those of published jobs for the other.
const (
	leastAge = 15 * time.Minute
	mostAge  = 24 * time.Hour
)

func (o *options) run(ctx context.Context, s *daemon.Surroundings, nc *nats.Conn) error {
	d, err := dispatch.New(dispatch.Config{
		Name: o.name, NC: nc, Log: s.Log, Build: daemon.Version(),
		Settings: stream.Settings{Partitions: o.partitions, Replicas: o.replicas, SessionQueue: o.sessionQueue, Accounts: o.accounts,
			Resize: true, JobsBytes: int64(o.jobsSize), ResultsBytes: int64(o.resultsSize), DeadBytes: int64(o.deadSize), BatchBytes: int64(o.batchesSize),
			ObjectBytes: int64(o.objectsSize), ObjectMost: int64(o.objectMax), TenantObjects: int64(o.tenantObjects)},
		Alerts: o.alerts, QuotaFile: o.quotas, ResultsMinAge: o.resultsMinAge, Weights: o.weights, PoolingOff: !o.pooling,
		Machine: clock.System(), Traces: s.Traces,
		OnReady: func() { fmt.Fprintln(s.Out, "ready", nc.ConnectedUrlRedacted()) },
	})
	if err != nil {
		return err
	}
	s.Metrics.MustRegister(d)
	o.live.Store(d)
	if !o.pooling {
		s.Log.Warn("pooling_disabled", "hint", "pooling_enabled is false: calls are refused, and published jobs wait")
	}
	return advise(d.Run(ctx))
}

// reload reads the settings again for a dispatcher that runs with o.
func (o *options) reload() daemon.Reload {
	next := &options{}
	return daemon.Reload{Flags: next.declare, Check: next.check, Takes: daemon.DispatcherTakes,
		Take: func(c *daemon.Changes) error { return o.take(next, c) }}
}

// take applies what has changed. A webhook's address is read at the start.
func (o *options) take(next *options, c *daemon.Changes) error {
	d := o.live.Load()
	if d == nil {
		return errors.New("this dispatcher has not begun yet: reload it when it has written its line \"ready\"")
	}
	if slices.Contains(next.alerts.Destinations, "webhook") && o.alerts.Webhook == "" {
		c.Keep("alert-destinations", "the webhook's address is read at the start")
		next.alerts.Destinations = o.alerts.Destinations
	}
	o.alerts.ErrorRate, o.alerts.Destinations = next.alerts.ErrorRate, next.alerts.Destinations
	d.Adjust(o.alerts)
	o.weights = next.weights
	d.Weigh(o.weights)
	return nil
}

// noRoom is the broker's code for a stream that requests more space than there is.
const noRoom jetstream.ErrorCode = 10047

// advise is what to do about an answer of the broker to the creation of streams.
func advise(err error) error {
	api, ok := errors.AsType[*jetstream.APIError](err)
	other, unlike := errors.AsType[*link.AccountsError](err)
	switch {
	case err == nil:
		return nil
	case unlike:
		return daemon.Hint(err, other.Hint)
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return daemon.Hint(err, "JetStream is not enabled for this account: see nats.conf, or start the broker with `nats-server -js`")
	case ok && api.ErrorCode == noRoom:
		return daemon.Hint(err, "twice --jobs-size, --results-size, --dlq-size, --batches-size and --objects-size must fit into the broker's max_file_store (nats.conf)")
	case errors.Is(err, context.DeadlineExceeded):
		return daemon.Hint(err, "the broker does not answer requests without permission: look for permission violations in its log")
	}
	return err
}

// health finds the dispatcher of that name among those that answer.
func health(ctx context.Context, nc *nats.Conn, name string) error {
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	if err := nc.PublishRequest("$SRV.PING."+dispatch.ServiceName, inbox, nil); err != nil {
		return err
	}
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return err
		}
		var ping micro.Ping
		if err := json.Unmarshal(m.Data, &ping); err == nil && ping.Metadata[dispatch.MetadataName] == name {
			return nil
		}
	}
}
