package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/pflag"
)

// Bounds of the metrics endpoint.
const (
	scrapeTime  = 10 * time.Second // of one answer
	scrapesMost = 4                // at once
	scrapeGrace = time.Second      // for answers under way at the end
)

// Metrics is the endpoint /metrics, if there is an address for it.
type Metrics struct{ Address string }

// Flags declares its flags.
func (m *Metrics) Flags(f *pflag.FlagSet) {
	f.StringVar(&m.Address, "metrics", "", "HOST:PORT of the endpoint /metrics for Prometheus, such as 127.0.0.1:9464 (default: none)")
}

// Check reports what is wrong with the address.
func (m *Metrics) Check() error {
	if m.Address == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(m.Address); err != nil {
		return fmt.Errorf("--metrics must be HOST:PORT, such as 127.0.0.1:9464, got %q", m.Address)
	}
	return nil
}

// NewRegistry has the metrics that every process reports.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Serve answers at the URL, "" if there is no address, until stop is called, which waits for the answers under way.
func (m *Metrics) Serve(r *prometheus.Registry, log *slog.Logger) (url string, stop func(), err error) {
	if m.Address == "" {
		return "", func() {}, nil
	}
	l, err := net.Listen("tcp", m.Address)
	if err != nil {
		return "", nil, &failure{status: ExitFailed, text: fmt.Sprintf("--metrics: %v", err), hint: "choose a free address with --metrics; without the flag there are no metrics"}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(r, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: scrapesMost, Timeout: scrapeTime}))
	server := &http.Server{Handler: mux, ReadTimeout: scrapeTime, WriteTimeout: 2 * scrapeTime}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	url = "http://" + l.Addr().String() + "/metrics"
	log.Info("metrics", "url", url)
	return url, func() {
		ctx, cancel := context.WithTimeout(context.Background(), scrapeGrace)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics_ended", "error", err)
		}
	}, nil
}
