package alerts

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Destinations of alerts.
const (
	Logger    = "logger"    // the dispatcher's log
	Telemetry = "telemetry" // an event in DSPEX_EVENTS
	Webhook   = "webhook"   // a POST to Alerts.Webhook
)

// DefaultErrorRate is the share of failing jobs above which there is an alert by default.
const DefaultErrorRate = 0.05

var destinations = []string{Logger, Telemetry, Webhook}

// Config is when there is an alert, and where it goes. Zero values mean the defaults.
type Config struct {
	ErrorRate    float64  // threshold, 0 to 1
	Destinations []string // nil: logger and telemetry
	Webhook      string   // address
}

// Flags declares the flags of alerts.
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

// Check reports everything that is wrong. What is wrong with the webhook's address is reported without it: it may hold a secret.
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
