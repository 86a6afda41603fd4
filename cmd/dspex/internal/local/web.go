package local

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/gateway"
	"github.com/dspex/dspex/internal/tracing"
)

// web is the gateway of `dspex dev`.
type web struct {
	listen   string
	traceURL string
	listener net.Listener // nil: no HTTP
	traces   *tracing.Tracer
	wg       sync.WaitGroup
}

// noHTTP is the value of --http for none.
const noHTTP = "none"

func (w *web) flags(f *pflag.FlagSet) {
	f.StringVar(&w.traceURL, "trace-url", "", gateway.TraceURLHelp)
	f.StringVar(&w.listen, "http", gateway.DefaultListen, "HOST:PORT of HTTP, as of dspex gateway; port 0 takes a free one, as the default does when it is taken; none")
}

func (w *web) config() gateway.Config {
	return gateway.Config{Listen: w.listen, ListenFlag: "--http", TraceURL: w.traceURL}
}

func (w *web) check() error {
	if w.listen == noHTTP {
		return nil
	}
	return w.config().Check()
}

// open takes the port, so that one which is taken ends the start and not the work.
func (w *web) open() (err error) {
	if w.listen == noHTTP {
		return nil
	}
	w.listener, err = w.config().Open()
	if errors.Is(err, syscall.EADDRINUSE) && w.listen == gateway.DefaultListen {
		w.listener, err = gateway.Config{Listen: "127.0.0.1:0"}.Open()
	}
	return err
}

// serve serves until ctx ends, and returns where, "" if there is no HTTP.
func (w *web) serve(ctx context.Context, broker string, models func() []string, registry *prometheus.Registry, log *slog.Logger) string {
	if w.listener == nil {
		return ""
	}
	client, err := dspex.Connect(ctx, broker, dspex.WithPropagator(gateway.Traceparent))
	if err != nil {
		log.Error("http_not_served", "error", err)
		return ""
	}
	cfg := w.config()
	cfg.Log, cfg.Traces, cfg.ModelsNow = log, w.traces, models
	g, err := gateway.New(client, cfg, registry)
	if err != nil {
		client.Close()
		log.Error("http_not_served", "error", err)
		return ""
	}
	w.wg.Go(func() {
		defer client.Close()
		if err := g.Serve(ctx, w.listener, registry, log); err != nil {
			log.Error("http_not_served", "error", err)
		}
	})
	return w.config().URL(w.listener)
}

// wait returns when nothing is served any more.
func (w *web) wait() {
	if w.listener != nil {
		_ = w.listener.Close() // of a start that failed
	}
	w.wg.Wait()
}
