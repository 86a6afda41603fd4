// Package alerts sends word to the operators: of the error rate, and of what was lost.
package alerts

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/dispatch/fleet"
	"github.com/dspex/dspex/internal/stream"
)

// Events about the error rate (contract/breakers.md).
const (
	eventAlert     = "dspex.error_reporter.alert"
	eventRecovered = "dspex.error_reporter.recovered"

	subjectAlert     = contract.SubjectAlert
	subjectRecovered = contract.SubjectRecovered
)

// alert is what destinations receive.
type alert struct {
	Event      string    `json:"event"`
	At         time.Time `json:"at"`
	Dispatcher string    `json:"dispatcher"`
	ErrorRate  float64   `json:"error_rate"`
	Threshold  float64   `json:"threshold"`
	Errors     int64     `json:"errors"`
	Total      int64     `json:"total"`
	WindowMS   int64     `json:"window_ms"`
}

// Alerter sends alerts.
type Alerter struct {
	broker             *stream.Access
	log                *slog.Logger
	dispatcher         string
	destinations       atomic.Pointer[[]string]
	webhook            *webhook
	alerts, recoveries atomic.Int64
}

// New sends alerts of the dispatcher of that name, as configured.
func New(dispatcher string, cfg Config, broker *stream.Access, log *slog.Logger) *Alerter {
	a := &Alerter{broker: broker, log: log, dispatcher: dispatcher, webhook: newWebhook(cfg.Webhook, log)}
	a.SendTo(cfg.Destinations)
	return a
}

// SendTo sets where alerts go from now on. The webhook's address stays.
func (a *Alerter) SendTo(destinations []string) { a.destinations.Store(&destinations) }

// Run posts what waits for the webhook until ctx ends.
func (a *Alerter) Run(ctx context.Context) { a.webhook.run(ctx) }

// Counts are the alerts and recoveries that were sent.
func (a *Alerter) Counts() (alerts, recoveries int64) { return a.alerts.Load(), a.recoveries.Load() }

// WatchErrors judges the error rate until ctx ends. All dispatchers do, so that a new leader has what was sent; the one that leads
// sends alerts.
func (a *Alerter) WatchErrors(ctx context.Context, hosts *fleet.Fleet, leads func() bool) {
	for range clock.AtOnceAndEvery(ctx, fleet.Tick) {
		if r, v := hosts.JudgeErrors(); v != fleet.Quiet && leads() {
			a.sendRate(r, v)
		}
	}
}

func (a *Alerter) sendRate(r fleet.Rate, v fleet.Verdict) {
	body := alert{Event: eventAlert, At: time.Now().UTC(), Dispatcher: a.dispatcher, ErrorRate: r.Share(), Threshold: r.Threshold, Errors: r.Failed, Total: r.Total, WindowMS: fleet.RateWindow * 1000}
	subject, log, count := subjectAlert, a.log.Error, &a.alerts
	if v == fleet.Recovered {
		body.Event, subject, log, count = eventRecovered, subjectRecovered, a.log.Info, &a.recoveries
	}
	count.Add(1)
	a.Send(subject, body, func() {
		log("error_rate", "event", body.Event, "error_rate", body.ErrorRate, "threshold", body.Threshold, "errors", body.Errors, "total", body.Total)
	})
}

// Send sends an alert to all destinations; write puts it into the log.
func (a *Alerter) Send(subject string, alert any, write func()) {
	body, err := json.Marshal(alert)
	if err != nil {
		a.log.Error("alert_not_sent", "error", err)
		return
	}
	for _, destination := range *a.destinations.Load() {
		switch destination {
		case Logger:
			write()
		case Telemetry:
			if err := a.broker.Send(subject, nil, body); err != nil {
				a.log.Error("alert_not_sent", "destination", destination, "error", err)
			}
		case Webhook:
			a.webhook.post(body)
		}
	}
}
