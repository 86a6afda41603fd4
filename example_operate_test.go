package dspex_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/dspex/dspex"
)

func ExampleClient_Health() {
	health, err := exampleClient().Health(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(health.Status, health.Stats.ActiveWorkers)
	// Output: healthy 4
}

func ExampleClient_Stats() {
	stats, err := exampleClient().Stats(context.Background())
	fmt.Println(stats.PoolSize, stats.AvailableWorkers, stats.AverageResponseTime, stats.Uptime, err)
	// Output: 4 2 245ms 1h0m0s <nil>
}

func ExampleAdmin_Sessions() {
	for session, err := range exampleClient().Admin().Sessions(context.Background(), dspex.SessionFilter{Prefix: "a_", Idle: time.Minute, Limit: 2}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(session.ID, session.Worker, session.Operations)
	}
	// Output:
	// a_1 h1/0 12
	// a_2 h1/0 12
}

func ExampleAdmin_GetSession() {
	session, err := exampleClient().Admin().GetSession(context.Background(), "bob")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(session.ID, session.Idle, session.Programs[0].ID, session.Running.Status)
	// Output: bob 1m30s qa_bot retrying
}

func ExampleAdmin_ExportSession() {
	client, ctx := exampleClient(), context.Background()
	document, err := client.Admin().ExportSession(ctx, "bob")
	if err != nil {
		log.Fatal(err)
	}
	reply, err := client.Admin().ImportSession(ctx, "bob_copy", document, false)
	fmt.Println(reply.Outputs()["status"], err)
	// Output: imported <nil>
}

func ExampleAdmin_CleanupSession() {
	client, ctx := exampleClient(), context.Background()
	reply, err := client.Admin().CleanupSession(ctx, "finished", dspex.WithJobID("cleanup-1"))
	fmt.Println(reply.Outputs()["status"], err)
	reply, err = client.Admin().EraseSession(ctx, "finished")
	fmt.Println(reply.Outputs()["status"], err)
	// Output:
	// cleaned <nil>
	// erased <nil>
}

func ExampleAdmin_DrainHost() {
	admin, ctx := exampleClient().Admin(), context.Background()
	if err := admin.DrainHost(ctx, "h1"); err != nil {
		log.Fatal(err)
	}
	hosts, err := admin.Hosts(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, host := range hosts.Hosts {
		fmt.Println(host.Host, host.State)
	}
	fmt.Println(admin.ResumeHost(ctx, "h1"))
	// Output:
	// h1 draining
	// h2 gone
	// <nil>
}

func ExampleAdmin_ReloadHosts() {
	admin, ctx := exampleClient().Admin(), context.Background()
	hosts, err := admin.ReloadHosts(ctx, "")
	if err != nil {
		log.Fatal(err)
	}
	for _, host := range hosts {
		for _, s := range host.Taken {
			fmt.Printf("%s %s: %q, then %q\n", host.Host, s.Key, s.Was, s.Is)
		}
		for _, s := range host.Restart {
			fmt.Println(host.Host, s.Key, "needs a restart")
		}
	}
	// Output:
	// h1 pool_size: "2", then "4"
	// h1 lm: "", then ""
	// h1 slots needs a restart
}

func ExampleAdmin_ResetBreaker() {
	admin, ctx := exampleClient().Admin(), context.Background()
	breakers, err := admin.Breakers(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, b := range breakers {
		if b.State == dspex.BreakerOpen {
			fmt.Println(b.Name, b.RetryIn, b.LastFailure.What)
			b, err = admin.ResetBreaker(ctx, b.Name)
			fmt.Println(b.State, err)
		}
	}
	// Output:
	// lm.openai/gpt-4o 42s resource_error/lm_rate_limit
	// closed <nil>
}

func ExampleAdmin_DeadLetters() {
	admin, ctx := exampleClient().Admin(), context.Background()
	for letter, err := range admin.DeadLetters(ctx, dspex.DeadLetterFilter{Session: "bob", Category: dspex.ErrTimeout}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(letter.Sequence, letter.Job, letter.Command, letter.Code)
	}
	details, err := admin.GetDeadLetter(ctx, 17)
	if err != nil {
		log.Fatal(err)
	}
	for _, failure := range details.Failures {
		fmt.Println(failure.Attempt, failure.Message)
	}
	// Output:
	// 17 bob/order-1 predict operation_timeout
	// 1 the attempt took longer than 30s
	// 2 the attempt took longer than 30s
}

func ExampleAdmin_ReplayDeadLetter() {
	admin, ctx := exampleClient().Admin(), context.Background()
	replay, err := admin.ReplayDeadLetter(ctx, 17)
	fmt.Println(replay.Job, err)
	// Output: bob/order-1-r17 <nil>
}

func ExampleAdmin_PurgeDeadLetters() {
	admin, ctx := exampleClient().Admin(), context.Background()
	removed, err := admin.PurgeDeadLetters(ctx, dspex.DeadLetterFilter{OlderThan: 7 * 24 * time.Hour})
	fmt.Println(removed, err)
	// Output: 1 <nil>
}

func ExampleAdmin_Audit() {
	admin, ctx := exampleClient().Admin(), context.Background()
	for r, err := range admin.Audit(ctx, dspex.AuditFilter{NewerThan: 30 * 24 * time.Hour}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(r.At.Format(time.DateOnly), r.Tenant, r.Action, r.Outcome)
	}
	// Output:
	// 2026-01-02 default hosts.drain accepted
	// 2026-01-02 acme call.set_lm refused
}

// Pages are for programs that show the list piece by piece; DeadLetters follows the cursors by itself.
func ExampleAdmin_DeadLettersPage() {
	admin, ctx := exampleClient().Admin(), context.Background()
	page, err := admin.DeadLettersPage(ctx, dspex.DeadLetterFilter{Limit: 20}, "")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(page.Items), page.Items[0].Job, page.Next == "")
	// Output: 1 bob/order-1 true
}

func ExampleAdmin_ReplayDeadLetters() {
	admin, ctx := exampleClient().Admin(), context.Background()
	for replay, err := range admin.ReplayDeadLetters(ctx, dspex.DeadLetterFilter{Session: "bob"}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(replay.Sequence, replay.Job, replay.Existing, replay.Err)
		if err := admin.PurgeDeadLetter(ctx, replay.Sequence); err != nil {
			log.Fatal(err)
		}
	}
	// Output: 17 bob/order-1-r17 false <nil>
}

func ExampleAdmin_RemoveConsumer() {
	admin, ctx := exampleClient().Admin(), context.Background()
	err := admin.RemoveConsumer(ctx, "DSPEX_JOBS", "no_such_consumer")
	var failure *dspex.Error
	fmt.Println(errors.As(err, &failure), failure.Code)
	// Output: true consumer_unknown
}

// The loop follows the service's events until it is left or the context ends.
func ExampleAdmin_Events() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	openBreakers(ctx)
	for event, err := range exampleClient().Admin().Events(ctx, dspex.EventFilter{}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(event.At.Format(time.DateOnly), event.Name)
		break
	}
	// Output: 2026-01-02 dspex.circuit_breaker.opened
}

// An operator reads what the programs of a host print.
func ExampleAdmin_Logs() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	oneHostLogs(ctx)
	for line, err := range exampleClient().Admin().Logs(ctx, dspex.LogFilter{Tail: 100, Name: "h1"}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(line.At.Format(time.TimeOnly), line.Message, line.Field("worker"), line.Field("text"))
	}
	// Output: 03:04:05 worker_output h1/0 hello
}

// An operator reads the jobs and numbers of one tenant, and submits nothing for it.
func ExampleAdmin_Tenant() {
	tenant, ctx := exampleClient().Admin().Tenant("acme"), context.Background()
	stats, err := tenant.Stats(ctx)
	fmt.Println(stats.ActiveSessions, err)
	_, err = tenant.Submit(ctx, "user_123", "predict", nil)
	fmt.Println(errors.Is(err, dspex.ErrInvalid))
	// Output:
	// 3 <nil>
	// true
}
