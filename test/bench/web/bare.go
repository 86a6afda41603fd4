package web

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/dspex/dspex/internal/jobs"
)

// Bare is the least that a program of net/http and a client of NATS can do for a call over HTTP: it passes on the body unread, under an id.
func Bare(ctx context.Context, broker string) error {
	nc, err := nats.Connect(broker)
	if err != nil {
		return err
	}
	defer nc.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/sessions/{session}/jobs", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		within, cancel := context.WithTimeout(r.Context(), time.Minute)
		defer cancel()
		reply, err := nc.RequestMsgWithContext(within, &nats.Msg{Subject: jobs.RPCSession + r.PathValue("session"), Data: body, Header: nats.Header{jobs.HeaderJob: {nuid.Next()}}})
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(reply.Data)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	fmt.Println("ready http://" + l.Addr().String())
	_ = server.Serve(l)
	return nil
}
