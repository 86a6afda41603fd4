package production

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/logfeed"
	"github.com/dspex/dspex/internal/natstest"
)

// operating is a connection with the permissions of the user operator.
func (w *walls) operating() *nats.Conn {
	w.Helper()
	return natstest.Connect(w.T, w.broker, nats.UserInfo("operator", password("operator")), nats.CustomInboxPrefix("_INBOX.operator"),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { w.Error(err) }))
}

// TestOperatorsAloneReadLogs: a worker prints while an operator follows, a gateway of operators logs, and tenants subscribe to everything.
func TestOperatorsAloneReadLogs(t *testing.T) {
	w := build(t)
	tenant := w.as("tenant acme")
	all, err := tenant.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	w.flush(tenant)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	gateway, serving := logfeed.New("gateway", "g1"), make(chan error, 1)
	go func() { serving <- gateway.Serve(ctx, w.operating()) }()
	log := slog.New(gateway.Handler(slog.NewTextHandler(io.Discard, nil))) //nolint:sloglint // the discarding one takes no level
	const secret = "printed in a job of acme"
	run := func(session string) {
		if m, err := tenant.Request("dspex.rpc.session."+session, []byte(`{"command":"print","args":{"text":"`+secret+`"}}`), time.Minute); err != nil || !strings.Contains(string(m.Data), `"ok":true`) {
			t.Fatalf("%v, %v", m, err)
		}
	}
	run("x1")
	var saw []string
	for l, err := range dspex.New(w.operating()).Admin().Logs(ctx, dspex.LogFilter{Tail: 1000, Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if saw = append(saw, l.Process+" "+l.Field("text")+l.Field("note")); len(saw) > 1000 {
			t.Fatal("neither came")
		}
		switch l.Field("text") + l.Field("note") {
		case secret:
			log.Info("line", "note", "of a gateway")
		case "of a gateway":
			cancel()
		}
	}
	if err := <-serving; err != nil {
		t.Error(err)
	}
	if !slices.Contains(saw, "worker-host "+secret) || !slices.Contains(saw, "gateway of a gateway") || !slices.ContainsFunc(saw, func(s string) bool { return strings.HasPrefix(s, "dispatcher ") }) {
		t.Errorf("the operator saw %q", saw)
	}
	w.flush(tenant)
	for n, _, _ := all.Pending(); n > 0; n, _, _ = all.Pending() {
		m, err := all.NextMsg(time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(m.Subject, "dspex.log") {
			t.Errorf("the tenant hears %s: %s", m.Subject, m.Data)
		}
	}
}
