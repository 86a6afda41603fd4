package daemon

import (
	"context"
	"errors"
	"fmt"
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

// metricsEndpoint serves /metrics, if there is an address for it.
type metricsEndpoint struct{ address string }

func (m *metricsEndpoint) declare(f *pflag.FlagSet) {
	f.StringVar(&m.address, "metrics", "", "HOST:PORT of the endpoint /metrics for Prometheus, such as 127.0.0.1:9464 (default: none)")
}

func (m *metricsEndpoint) check() error {
	if m.address == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(m.address); err != nil {
		return fmt.Errorf("--metrics is %q: expected HOST:PORT, such as 127.0.0.1:9464", m.address)
	}
	return nil
}

// newRegistry has what every process tells of itself.
func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// serve answers until the returned function is called, which waits for the answers under way.
func (m *metricsEndpoint) serve(s *Surroundings) (stop func(), err error) {
	if m.address == "" {
		return func() {}, nil
	}
	l, err := net.Listen("tcp", m.address)
	if err != nil {
		return nil, &failure{status: exitFailed, text: fmt.Sprintf("--metrics: %v", err), hint: "another --metrics names a free address; without it nothing listens"}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.Metrics, promhttp.HandlerOpts{MaxRequestsInFlight: scrapesMost, Timeout: scrapeTime}))
	server := &http.Server{Handler: mux, ReadTimeout: scrapeTime, WriteTimeout: 2 * scrapeTime}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	s.Log.Info("metrics", "url", "http://"+l.Addr().String()+"/metrics")
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), scrapeGrace)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			s.Log.Error("metrics_ended", "error", err)
		}
	}, nil
}
