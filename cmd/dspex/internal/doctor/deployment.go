package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/daemon"
)

// deployment checks the broker and what is behind it.
func (d *doctor) deployment(ctx context.Context) {
	address, options, err := d.app.Target()
	if err != nil {
		d.add("broker", Wrong, "", "%v", err)
		return
	}
	nc, err := nats.Connect(address, append(options, nats.Name("dspex doctor"), nats.ErrorHandler(d.denials.come))...)
	if err != nil {
		d.add("broker", Wrong, "is NATS running there? `dspex dev` starts everything on this machine; --server names another one", "cannot reach %s: %v", daemon.WithoutPassword(address), err)
		return
	}
	defer nc.Close()
	d.broker(ctx, nc)
	if !d.answered(nc) {
		return
	}
	d.user(ctx, nc)
	c := dspex.New(nc)
	d.service(ctx, c)
	d.operation(ctx, c, nc)
	if js, err := jetstream.New(nc); !d.denied(ctx, "streams", err) {
		d.account(ctx, js)
		d.stored(ctx, js)
	}
	d.permissions()
	if d.probe {
		d.probes(ctx, c)
	}
}

// service checks the health, which names what is missing.
func (d *doctor) service(ctx context.Context, c *dspex.Client) {
	ctx, done := d.bounded(ctx, patience)
	defer done()
	h, err := c.Health(ctx)
	var e *dspex.Error
	switch why := reason(ctx, err); {
	case errors.Is(why, errDenied):
		d.denied(ctx, "health", err)
		return
	case errors.As(err, &e):
		d.add("health", Wrong, e.Hint, "%s: %s", e.Code, e.Message)
		return
	case err != nil:
		d.add("health", Wrong, "", "%v", err)
		return
	case h.Status == dspex.HealthHealthy:
		d.fine("health", "healthy: %d of %d workers, engine %s", h.Stats.ActiveWorkers, h.Stats.PoolSize, h.Stats.Engine)
	}
	for _, reason := range h.Reasons {
		d.add("health", Wrong, "see docs/operations.md for each", "%s", reason)
	}
	if !h.Accounts {
		d.add("accounts", Note, "docs/security.md: accounts for clients that you do not trust", "clients share the service's account: one that may publish can write to any subject")
	}
	if h.Stats.Sandbox == "none" {
		d.add("sandbox", Warning, "--sandbox user (docs/security.md)", "workers may read what their host may")
	}
}

// operation checks what operators see. Each check has its own bound: a denied one does not end the others.
func (d *doctor) operation(ctx context.Context, c *dspex.Client, nc *nats.Conn) {
	var hosts dspex.Hosts
	if !d.checked(ctx, "hosts", func(ctx context.Context) (err error) { hosts, err = c.Admin().Hosts(ctx); return err }) {
		return
	}
	d.hosts(hosts)
	d.clocks(hosts)
	d.versions(nc, hosts)
	d.checked(ctx, "breakers", func(ctx context.Context) error { return d.breakers(ctx, c) })
	d.checked(ctx, "consumers", func(ctx context.Context) error { return d.foreign(ctx, c) })
	d.checked(ctx, "dead letters", func(ctx context.Context) error { return d.deadLetters(ctx, c) })
}

// checked runs one check, and reports whether it could be done.
func (d *doctor) checked(ctx context.Context, check string, do func(context.Context) error) bool {
	ctx, done := d.bounded(ctx, patience)
	defer done()
	return !d.denied(ctx, check, do(ctx))
}

func (d *doctor) breakers(ctx context.Context, c *dspex.Client) error {
	breakers, err := c.Admin().Breakers(ctx)
	for _, b := range breakers {
		if b.State != dspex.BreakerClosed {
			d.add("breakers", Warning, "docs/failures.md, Circuit breakers; `dspex breakers reset "+b.Name+"` closes it", "%s is %s", b.Name, b.State)
		}
	}
	return err
}

// foreign are consumers that are not dspex's.
func (d *doctor) foreign(ctx context.Context, c *dspex.Client) error {
	consumers, err := c.Admin().Consumers(ctx)
	for _, f := range consumers {
		d.add("consumers", Wrong, fmt.Sprintf("`dspex consumers remove %s %s` removes it", f.Stream, f.Consumer), "the consumer %s on %s is not dspex's: it takes jobs away", f.Consumer, f.Stream)
	}
	return err
}

func (d *doctor) deadLetters(ctx context.Context, c *dspex.Client) error {
	for l, err := range c.Admin().DeadLetters(ctx, dspex.DeadLetterFilter{Limit: 1}) {
		if err != nil {
			return err
		}
		d.add("dead letters", Note, "`dspex dlq list` shows them, `dspex dlq replay` runs them again", "there are jobs that failed permanently, the oldest %s ago", cli.Span(time.Since(l.CreatedAt)))
	}
	return nil
}

func (d *doctor) hosts(hosts dspex.Hosts) {
	engines := map[string][]string{}
	for _, h := range hosts.Hosts {
		switch {
		case h.State == dspex.HostGone:
			d.add("hosts", Warning, "start it again; its sessions move to other hosts in the meantime", "%s does not answer", h.Host)
			continue
		case h.ActiveWorkers < h.PoolSize:
			d.add("hosts", Warning, "the host's log has the reason why its workers do not start", "%s has %d of %d workers", h.Host, h.ActiveWorkers, h.PoolSize)
		case h.Drain:
			d.add("hosts", Note, "`dspex hosts resume "+h.Host+"` lets it serve again", "%s is drained", h.Host)
		}
		engines[h.Engine] = append(engines[h.Engine], h.Host)
	}
	if len(engines) > 1 {
		var each []string
		for engine, of := range engines {
			each = append(each, engine+" on "+strings.Join(of, ", "))
		}
		d.add("versions", Warning, "sessions move between hosts: use the same engine on all", "hosts have different engines: %s", strings.Join(each, "; "))
	}
	if hosts.Unassigned > 0 {
		d.add("partitions", Warning, "this ends within seconds if a host serves; otherwise start one", "%d of %d partitions have no owner", hosts.Unassigned, hosts.Partitions)
	}
	if hosts.Leader == "" {
		d.add("leader", Wrong, "start a dispatcher, or read its log", "no dispatcher leads: nothing is assigned")
		return
	}
	d.fine("hosts", "worker-hosts: %d, partitions: %d, %s leads", len(hosts.Hosts), hosts.Partitions, hosts.Leader)
}

// probes calls each language model once.
func (d *doctor) probes(ctx context.Context, c *dspex.Client) {
	if len(d.profiles) == 0 {
		d.add("probe", Note, "put lm into the file of settings", "no profiles are known here")
	}
	for _, name := range d.profiles {
		began := time.Now()
		reply, err := c.ExecuteAnonymous(ctx, "predict", dspex.Args{"question": "Say yes."}, dspex.WithLM(name), dspex.WithMaxRetries(0), dspex.WithTimeout(probeFor))
		if err != nil {
			d.add("probe", Wrong, "docs/language-models.md", "%s: %v", name, err)
			continue
		}
		d.fine("probe", "%s answered in %v, attempt %d", name, time.Since(began).Round(time.Millisecond), reply.Attempt)
	}
}
