package lm

import (
	"context"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"
)

// Unreachable is the header of an answer that is the proxy's own: the model's server was not reached.
const Unreachable = "Dspex-Model-Unreachable"

// Bounds of the proxy.
const (
	reachTimeout  = 10 * time.Second // to connect, as in the worker's own client
	headerTimeout = 10 * time.Second // for the head of a worker's request
	keepIdle      = 90 * time.Second
	keepPerServer = 1000 // idle connections, as many as a profile may have by default
	maxHead       = 64 << 10
)

// Serve lets workers without a network call the models of the profiles, and nothing else, over the connections that l hands out. It adds
// the keys. It returns when ctx ends.
func (r *Registry) Serve(ctx context.Context, l net.Listener, logger *slog.Logger) error {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: reachTimeout}).DialContext, TLSHandshakeTimeout: reachTimeout,
		ForceAttemptHTTP2: true, DisableCompression: true, MaxIdleConnsPerHost: keepPerServer, IdleConnTimeout: keepIdle,
	}
	defer transport.CloseIdleConnections()
	server := &http.Server{
		Handler: r.handler(transport, logger), ReadHeaderTimeout: headerTimeout, IdleTimeout: keepIdle, MaxHeaderBytes: maxHead,
		ErrorLog: log.New(nobody{}, "", 0), // of connections that workers break off
	}
	serving, broken := context.WithCancel(ctx)
	var closer sync.WaitGroup
	closer.Go(func() {
		<-serving.Done()
		server.Close()
	})
	err := server.Serve(l)
	broken()
	closer.Wait()
	if ctx.Err() == nil {
		return err
	}
	return nil
}

type nobody struct{}

func (nobody) Write(b []byte) (int, error) { return len(b), nil }

func (r *Registry) handler(transport http.RoundTripper, logger *slog.Logger) http.Handler {
	proxy := &httputil.ReverseProxy{
		Transport: transport, FlushInterval: -1, ErrorLog: log.New(nobody{}, "", 0),
		Rewrite: func(p *httputil.ProxyRequest) {
			e, to, _ := r.target(p.In.URL)
			p.Out.URL, p.Out.Host = to, ""
			e.sign(p.Out.Header)
		},
		ModifyResponse: func(answer *http.Response) error {
			answer.Header.Del("Set-Cookie")
			answer.Header.Del(Unreachable)
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, asked *http.Request, err error) {
			if asked.Context().Err() == nil { // else the worker has given up
				logger.Warn("model_unreachable", "error", reason(err))
			}
			w.Header().Set(Unreachable, "1")
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, asked *http.Request) {
		if _, _, ok := r.target(asked.URL); !ok || asked.Method != http.MethodPost {
			http.Error(w, "workers may POST to the language models of this host's profiles, and to nothing else", http.StatusForbidden)
			return
		}
		proxy.ServeHTTP(w, asked)
	})
}

// reason is what is wrong with the network, without the address, which may hold a secret.
func reason(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err.Error()
	}
	return "the exchange broke off"
}
