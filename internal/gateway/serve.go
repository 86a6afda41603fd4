package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// grace is how long requests under way may take when the gateway ends. A job that is stored or runs goes on without it.
const grace = 10 * time.Second

// Open opens the address of the configuration.
func (c Config) Open() (net.Listener, error) {
	c = c.withDefaults()
	if err := c.Check(); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.ListenFlag, err)
	}
	if c.Cert == "" {
		return l, nil
	}
	certificate, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}), nil
}

// Serve answers on the listener until ctx ends, lets the requests under way end, and closes it.
func (g *Gateway) Serve(ctx context.Context, l net.Listener, registry *prometheus.Registry, log *slog.Logger) error {
	defer g.Close()
	server := &http.Server{
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { smallBuffers(c); return ctx },
		Handler:     g.Handler(registry), ReadHeaderTimeout: g.cfg.HeaderTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	left, end := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer end()
	if server.Shutdown(left) != nil {
		g.ending.Store(true)
		_ = server.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// URL is where clients of the listener find the gateway.
func (c Config) URL(l net.Listener) string {
	if c.Cert != "" {
		return "https://" + l.Addr().String()
	}
	return "http://" + l.Addr().String()
}

// sendBuffer bounds what the kernel keeps for a client that does not read.
const sendBuffer = 128 << 10

func smallBuffers(c net.Conn) {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(sendBuffer) // without it the kernel's own bound holds
	}
}
