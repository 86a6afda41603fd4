// Package alerts sends word to the operators: of the error rate, and of what was lost.
package alerts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/dispatch/fleet"
	"github.com/dspex/dspex/internal/stream"

	"github.com/spf13/pflag"

	"github.com/dspex/dspex/internal/contract"
)

// Destinations of alerts.
const (
	Logger    = "logger"    // the dispatcher's log
	Telemetry = "telemetry" // an event in DSPEX_EVENTS
	Webhook   = "webhook"   // a POST to Alerts.Webhook
)

// DefaultErrorRate is the share of failing jobs above which there is an alert, unless something else is said.
const DefaultErrorRate = 0.05

var destinations = []string{Logger, Telemetry, Webhook}

// Config is when there is an alert, and where it goes. Zero values mean the defaults.
type Config struct {
	ErrorRate    float64  // threshold, 0 to 1
	Destinations []string // nil: logger and telemetry
	Webhook      string   // address
}

// Flags declares what the operator can say of alerts.
func (a *Config) Flags(f *pflag.FlagSet) {
	f.Float64Var(&a.ErrorRate, "error-rate-threshold", DefaultErrorRate, "share of failed jobs in 60 s, of at least 10, above which an alert is sent and the health is degraded")
	f.StringSliceVar(&a.Destinations, "alert-destinations", []string{Logger, Telemetry}, "destinations of alerts: "+strings.Join(destinations, ", ")+", separated by commas")
	f.StringVar(&a.Webhook, "alert-webhook", "", "URL that gets alerts as JSON by POST; needs webhook among --alert-destinations")
}

// WithDefaults has the defaults in place of zero values.
func (a Config) WithDefaults() Config {
	if a.ErrorRate == 0 {
		a.ErrorRate = DefaultErrorRate
	}
	if a.Destinations == nil {
		a.Destinations = []string{Logger, Telemetry}
	}
	return a
}

// Check reports everything that is wrong. What is wrong with the webhook's address is said without it: it may hold a secret.
func (a Config) Check() error {
	var wrong []error
	if !(a.ErrorRate > 0 && a.ErrorRate <= 1) {
		wrong = append(wrong, fmt.Errorf("--error-rate-threshold must be more than 0 and at most 1, got %v", a.ErrorRate))
	}
	for _, name := range a.Destinations {
		if !slices.Contains(destinations, name) {
			wrong = append(wrong, fmt.Errorf("--alert-destinations must be some of %s, got %q", strings.Join(destinations, ", "), name))
		}
	}
	wanted := slices.Contains(a.Destinations, Webhook)
	switch u, err := url.Parse(a.Webhook); {
	case wanted && a.Webhook == "":
		wrong = append(wrong, errors.New("--alert-destinations has webhook: set its address with --alert-webhook"))
	case !wanted && a.Webhook != "":
		wrong = append(wrong, errors.New("--alert-webhook has no effect without webhook among --alert-destinations"))
	case wanted && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https"):
		wrong = append(wrong, errors.New("--alert-webhook must be an address such as https://alerts.example/hook"))
	}
	return errors.Join(wrong...)
}

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
	destinations       []string
	webhook            *webhook
	alerts, recoveries atomic.Int64
}

// New sends alerts of the dispatcher of that name, as cfg says.
func New(dispatcher string, cfg Config, broker *stream.Access, log *slog.Logger) *Alerter {
	return &Alerter{broker: broker, log: log, dispatcher: dispatcher, destinations: cfg.Destinations, webhook: newWebhook(cfg.Webhook, log)}
}

// Run posts what waits for the webhook until ctx ends.
func (a *Alerter) Run(ctx context.Context) { a.webhook.run(ctx) }

// Counts are the alerts and recoveries that were sent.
func (a *Alerter) Counts() (alerts, recoveries int64) { return a.alerts.Load(), a.recoveries.Load() }

// WatchErrors judges the error rate until ctx ends. All dispatchers do, so that a new leader knows what was sent; the one that leads
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
	for _, destination := range a.destinations {
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
