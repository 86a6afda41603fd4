package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/dispatch/fleet"

	"github.com/spf13/pflag"

	"github.com/dspex/dspex/internal/contract"
)

// Destinations of alerts.
const (
	AlertLogger    = "logger"    // the dispatcher's log
	AlertTelemetry = "telemetry" // an event in DSPEX_EVENTS
	AlertWebhook   = "webhook"   // a POST to Alerts.Webhook
)

// DefaultErrorRate is the share of failing jobs above which there is an alert, unless something else is said.
const DefaultErrorRate = 0.05

var destinations = []string{AlertLogger, AlertTelemetry, AlertWebhook}

// Alerts says when there is an alert, and where it goes. Zero values mean the defaults.
type Alerts struct {
	ErrorRate    float64  // threshold, 0 to 1
	Destinations []string // nil: logger and telemetry
	Webhook      string   // address
}

// Flags declares what the operator can say of alerts.
func (a *Alerts) Flags(f *pflag.FlagSet) {
	f.Float64Var(&a.ErrorRate, "error-rate-threshold", DefaultErrorRate, "share of failed jobs in 60 s, of 10 at least, above which there is an alert and the health is degraded")
	f.StringSliceVar(&a.Destinations, "alert-destinations", []string{AlertLogger, AlertTelemetry}, "where alerts go: "+strings.Join(destinations, ", ")+", separated by commas")
	f.StringVar(&a.Webhook, "alert-webhook", "", "address that alerts are posted to as JSON; needs webhook among --alert-destinations")
}

func (a Alerts) withDefaults() Alerts {
	if a.ErrorRate == 0 {
		a.ErrorRate = DefaultErrorRate
	}
	if a.Destinations == nil {
		a.Destinations = []string{AlertLogger, AlertTelemetry}
	}
	return a
}

// Check says all that is wrong. What is wrong with the webhook's address is said without it: it may hold a secret.
func (a Alerts) Check() error {
	var wrong []error
	if !(a.ErrorRate > 0 && a.ErrorRate <= 1) {
		wrong = append(wrong, fmt.Errorf("--error-rate-threshold must be more than 0 and at most 1, got %v", a.ErrorRate))
	}
	for _, name := range a.Destinations {
		if !slices.Contains(destinations, name) {
			wrong = append(wrong, fmt.Errorf("--alert-destinations must be some of %s, got %q", strings.Join(destinations, ", "), name))
		}
	}
	wanted := slices.Contains(a.Destinations, AlertWebhook)
	switch u, err := url.Parse(a.Webhook); {
	case wanted && a.Webhook == "":
		wrong = append(wrong, errors.New("--alert-destinations has webhook: --alert-webhook says where it is"))
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

// watchErrors judges the error rate until ctx ends. All dispatchers do, so that a new leader knows what was sent; the one that leads
// sends alerts.
func (d *Dispatcher) watchErrors(ctx context.Context) {
	t := time.NewTicker(fleet.Tick)
	defer t.Stop()
	for {
		if r, v := d.hosts.JudgeErrors(); v != fleet.Quiet && d.leader.Leads() {
			d.tellErrors(r, v)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (d *Dispatcher) tellErrors(r fleet.Rate, v fleet.Verdict) {
	a := alert{Event: eventAlert, At: time.Now().UTC(), Dispatcher: d.cfg.Name, ErrorRate: r.Share(), Threshold: r.Threshold, Errors: r.Failed, Total: r.Total, WindowMS: fleet.RateWindow * 1000}
	subject, log, count := subjectAlert, d.log.Error, &d.alerts
	if v == fleet.Recovered {
		a.Event, subject, log, count = eventRecovered, subjectRecovered, d.log.Info, &d.recoveries
	}
	count.Add(1)
	d.alarm(subject, a, func() {
		log("error_rate", "event", a.Event, "error_rate", a.ErrorRate, "threshold", a.Threshold, "errors", a.Errors, "total", a.Total)
	})
}

// alarm tells all destinations; write is how the log is told.
func (d *Dispatcher) alarm(subject string, alert any, write func()) {
	body, err := json.Marshal(alert)
	if err != nil {
		d.log.Error("alert_not_sent", "error", err)
		return
	}
	for _, destination := range d.cfg.Alerts.Destinations {
		switch destination {
		case AlertLogger:
			write()
		case AlertTelemetry:
			if err := d.broker.Send(subject, nil, body); err != nil {
				d.log.Error("alert_not_sent", "destination", destination, "error", err)
			}
		case AlertWebhook:
			d.webhook.post(body)
		}
	}
}
