package dspex_test

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/natstest"
)

// answering answers a subject and returns the requests that came.
func answering(t *testing.T, nc *nats.Conn, subject, body string) <-chan *nats.Msg {
	t.Helper()
	asked := make(chan *nats.Msg, 8)
	if _, err := nc.Subscribe(subject, func(m *nats.Msg) {
		asked <- m
		_ = m.Respond([]byte(body))
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return asked
}

func TestAListIsReadPageByPage(t *testing.T) {
	s := natstest.Run(t)
	service, c := natstest.Connect(t, s), dspex.New(natstest.Connect(t, s))
	asked := answering(t, service, "dspex.rpc.sessions.list", `{"ok":true,"result":{"sessions":[{"session_id":"a","host":"h1","idle_ms":5}],"cursor":"next"}}`)
	page, err := c.Admin().SessionsPage(t.Context(), dspex.SessionFilter{Host: "h1", Limit: 20}, "from")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "sessions", len(page.Items), 1)
	equal(t, "the first", page.Items[0].ID, "a")
	equal(t, "the next cursor", page.Next, "next")
	equal(t, "request", string((<-asked).Data), `{"cursor":"from","host":"h1","idle_ms":0,"limit":20,"prefix":""}`)

	asked = answering(t, service, "dspex.rpc.dlq.list", `{"ok":true,"result":{"letters":[{"sequence":7,"job":"j"}]}}`)
	letters, err := c.Admin().DeadLettersPage(t.Context(), dspex.DeadLetterFilter{Session: "s", Limit: 100}, "")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "letters", len(letters.Items), 1)
	equal(t, "cursor behind the last page", letters.Next, "")
	equal(t, "request", string((<-asked).Data), `{"limit":100,"session":"s"}`)

	asked = answering(t, service, "dspex.rpc.batches.list", `{"ok":true,"result":{"batches":[{"batch":"b"}],"cursor":"x"}}`)
	batches, err := c.BatchesPage(t.Context(), 5, "")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "batch", batches.Items[0].ID, "b")
	equal(t, "request", string((<-asked).Data), `{"limit":5}`)

	_, err = c.BatchesPage(t.Context(), 201, "")
	is(t, "a page that is too large", err, dspex.ErrInvalid)
}

func TestAClientOfATenantPropagatesSpansToo(t *testing.T) {
	s := natstest.Run(t)
	service := natstest.Connect(t, s)
	c := dspex.New(natstest.Connect(t, s), dspex.WithPropagator(func(context.Context) string { return exampleSpan }))
	asked := answering(t, service, "dspex.rpc.session.s", `{"ok":true,"result":1,"job":"j"}`)
	if _, err := c.Admin().Tenant("acme").Execute(t.Context(), "s", "echo", nil); err != nil {
		t.Fatal(err)
	}
	equal(t, "traceparent", (<-asked).Header.Get("traceparent"), exampleSpan)
}

func TestInvalidJobsMatchTheirErrors(t *testing.T) {
	c := dspex.New(natstest.Connect(t, natstest.Run(t)))
	_, err := c.SubmitAll(t.Context(), []dspex.NewJob{{Session: "s", Command: "echo", Options: []dspex.SubmitOption{dspex.WithMaxRetries(25)}}})
	is(t, "a job with an option out of range", err, dspex.ErrInvalid)
	failsWith(t, "a job with an option out of range", err, dspex.CodeBadOption)
}

func TestAnOperatorsRequestsNameTheTenant(t *testing.T) {
	s := natstest.Run(t)
	service, c := natstest.Connect(t, s), dspex.New(natstest.Connect(t, s))
	asked := answering(t, service, "dspex.rpc.stats.get", `{"ok":true,"result":{}}`)
	for tenant, client := range map[string]*dspex.Client{"": c, "acme": c.Admin().Tenant("acme")} {
		if _, err := client.Stats(t.Context()); err != nil {
			t.Fatal(err)
		}
		equal(t, "tenant", (<-asked).Header.Get("Dspex-Tenant"), tenant)
	}
	_, err := c.Admin().Tenant("acme").Submit(t.Context(), "s", "echo", nil)
	is(t, "a job that is submitted for a tenant", err, dspex.ErrInvalid)
}
