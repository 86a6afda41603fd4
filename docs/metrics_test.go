package docs

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspex/dspex/internal/dispatch"
	"github.com/dspex/dspex/internal/host"
	"github.com/dspex/dspex/internal/host/provision"
	"github.com/dspex/dspex/internal/host/workers"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/pyproc"
)

const metricsHead = `# Metrics

` + "`worker-host --metrics 127.0.0.1:9464` and `dispatcher --metrics 127.0.0.1:9465` serve them at `/metrics`" + `, ` + "`dspex dev --metrics`" + ` those of both, in the form of Prometheus, beside those of the Go runtime and of the process. Without
the flag nothing listens. There is no authentication: keep the address on loopback or in a network of your own. Times are in seconds. No label holds the id of a session or of a
job. This page is generated from the metrics of the programs (` + "`go test ./docs -update`" + `); a test keeps it so.

` + "The names of docs/migration.md, \"Events and metrics\": `dspex.pool.checkout_time` and `.execution_time` are the histograms `dspex_pool_checkout_time_seconds` and `dspex_pool_execution_time_seconds`, `dspex.pool.requests` is" + `
` + "`dspex_pool_requests_total`, `dspex.pool.errors.<category>` is `dspex_pool_errors_total{error_category=\"<category>\"}`. One attempt at a time they are events on" + `
` + "`dspex.telemetry.>` (`contract/events.md`)." + `

Every dispatcher reports the numbers of the fleet: take the maximum. To scale hosts, keep the share of slots in use below 0.7 and refused calls at 0; a backlog that grows while slots are free waits for a language model or a circuit breaker, not for hosts.
` + "`deploy/alerts.yml` has alert rules for Prometheus, `deploy/grafana.json` is a dashboard for Grafana (Dashboards, Import)." + `

| to watch | expression |
|---|---|
` + "| use of the pool | `1 - sum(dspex_pool_free_slots) / sum(dspex_pool_slots)` |" + `
` + "| waiting for a slot, p99 | `histogram_quantile(0.99, sum by (le) (rate(dspex_pool_checkout_time_seconds_bucket[5m])))` |" + `
` + "| the whole fleet's slots in use | `max(dspex_slots{state=\"used\"}) / (max(dspex_slots{state=\"used\"}) + max(dspex_slots{state=\"free\"}))` |" + `
` + "| jobs without outcome, by lane | `max by (lane) (dspex_backlog_jobs)` |" + `
` + "| age of the oldest of them | `max by (lane) (dspex_oldest_job_seconds)` |" + `
` + "| calls refused for want of room | `sum by (code) (rate(dspex_refused_calls_total[1m]))` |" + `
` + "| share of failed jobs | `sum(rate(dspex_jobs_total{outcome=\"failed\"}[5m])) / sum(rate(dspex_jobs_total[5m]))` |" + `
` + "| workers that die | `sum(rate(dspex_worker_deaths_total[15m]))` |" + `
` + "| an open circuit breaker | `max by (breaker) (dspex_breaker_state) == 2` |" + `
` + "| blocked jobs | `sum by (step) (dspex_blocked_jobs) > 0` |" + `
` + "| no dispatcher leads | `sum(dspex_leader) != 1` |" + `

## StatsD names

dspex sends no StatsD packets. ` + "`deploy/otel-collector.yml`" + ` configures an OpenTelemetry collector that scrapes the metrics and gives them the names that the Elixir pool sent to StatsD.

| StatsD name | metric | differs |
|---|---|---|
` + "| `dspex.pool.checkout_time` | `dspex_pool_checkout_time_seconds` | a histogram in seconds, StatsD had milliseconds |" + `
` + "| `dspex.pool.execution_time` | `dspex_pool_execution_time_seconds` | the same |" + `
` + "| `dspex.pool.requests` | `dspex_pool_requests_total` | |" + `
` + "| `dspex.pool.errors.<category>` | `dspex_pool_errors_total` | the category is the label `error_category` |" + `
`

func TestThePageTellsEveryMetric(t *testing.T) {
	var b strings.Builder
	b.WriteString(metricsHead)
	pool := pyproc.New(pyproc.Config{Name: "h1", Size: 1})
	h, err := host.New(host.Config{Name: "h1", NC: &nats.Conn{}, Pool: workers.Python(pool), Models: struct{ provision.Models }{}})
	if err != nil {
		t.Fatal(err)
	}
	writeMetrics(t, &b, "worker-host", h, workers.Metrics(pool))
	writeMetrics(t, &b, "dispatcher", runDispatcher(t))
	have, err := os.ReadFile("metrics.md")
	if err == nil && string(have) == b.String() {
		return
	}
	if !*update {
		t.Fatalf("metrics.md is not what the programs say (%v): go test ./docs -update", err)
	}
	if err := os.WriteFile("metrics.md", []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// writeMetrics describes what the collectors export.
func writeMetrics(t *testing.T, b *strings.Builder, program string, collectors ...prometheus.Collector) {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(collectors...)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(b, "\n## %s\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n", program)
	for _, f := range families {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
			for _, free := range []string{"session", "job", "command", "worker", "id"} {
				if strings.Contains(l.GetName(), free) {
					t.Errorf("%s has the label %s: its values have no bound", f.GetName(), l.GetName())
				}
			}
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp())
	}
}

// runDispatcher returns a dispatcher that serves.
func runDispatcher(t *testing.T) *dispatch.Dispatcher {
	t.Helper()
	s := natstest.Run(t, func(o *server.Options) { o.JetStreamMaxStore = 64 << 30 })
	d, err := dispatch.New(dispatch.Config{Name: "d1", NC: natstest.Connect(t, s)})
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		if err := d.Run(t.Context()); err != nil { // ends before the test's clean-up
			t.Error(err)
		}
	})
	t.Cleanup(done.Wait)
	nc := natstest.Connect(t, s)
	for end := time.Now().Add(30 * time.Second); ; {
		if _, err := nc.Request("dspex.rpc.stats.get", nil, 5*time.Second); err == nil && tellsAll(t, d) {
			return d
		}
		if time.Now().After(end) {
			t.Fatal("the dispatcher does not serve, or does not tell all of its metrics")
		}
	}
}

// tellsAll reports whether there is a value of every metric: those of the streams come with the first probes.
func tellsAll(t *testing.T, c prometheus.Collector) bool {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(chan *prometheus.Desc, 100)
	c.Describe(all)
	return len(families) == len(all)
}
