package dspex_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/dspex/dspex"
)

func Example() {
	ctx := context.Background()
	client, err := dspex.Connect(ctx, exampleURL)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	reply, err := client.Execute(ctx, "user_123", "predict", dspex.Args{"question": "Paris?"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reply.Outputs()["answer"], reply.Session.State)
	// Output: Paris? warm
}

func ExampleClient_Execute_errors() {
	ctx := context.Background()
	client, err := dspex.Connect(ctx, exampleURL)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	_, err = client.Execute(ctx, "user_123", "busy", nil, dspex.WithMaxRetries(3), dspex.WithBackoff(dspex.Exponential()), dspex.WithTimeout(30*time.Second))
	var failure *dspex.Error
	switch {
	case errors.Is(err, dspex.ErrTimeout):
		fmt.Println("too slow")
	case errors.Is(err, dspex.ErrResource) && errors.As(err, &failure):
		fmt.Println("no room, again in", failure.RetryAfter)
	case err != nil:
		fmt.Println("something else:", err)
	}
	// Output: no room, again in 250ms
}

func ExampleClient_ExecuteAnonymous() {
	ctx := context.Background()
	client, err := dspex.Connect(ctx, exampleURL)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	reply, err := client.ExecuteAnonymous(ctx, "predict", dspex.Args{"text": "I love this product!"}, dspex.WithTimeout(time.Minute))
	fmt.Println(string(reply.Result), err)
	// Output: {"answer":"I love this product!"} <nil>
}

func ExampleClient_Submit() {
	ctx := context.Background()
	client, err := dspex.Connect(ctx, exampleURL)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	receipt, err := client.Submit(ctx, "user_123", "predict", dspex.Args{"question": "later"}, dspex.WithJob("order-17"))
	if err != nil {
		log.Fatal(err)
	}
	reply, err := client.Wait(ctx, "user_123", receipt.Job)
	fmt.Println(receipt.Job, reply.Outputs()["answer"], err)
	// Output: order-17 later <nil>
}

func ExampleClient_Stream() {
	ctx := context.Background()
	client, err := dspex.Connect(ctx, exampleURL)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	for chunk, err := range client.Stream(ctx, "user_123", "predict", dspex.Args{"question": "one two three"}) {
		switch {
		case err != nil:
			log.Fatal(err)
		case chunk.Reply != nil:
			fmt.Println("whole:", chunk.Reply.Outputs()["answer"])
		default:
			fmt.Printf("%d %s %q\n", chunk.N, chunk.Field, chunk.Text)
		}
	}
	// Output:
	// 0 answer "one "
	// 1 answer "two "
	// 2 answer "three"
	// whole: one two three
}

func ExampleBackoffFunc() {
	ctx := context.Background()
	client, err := dspex.Connect(ctx, exampleURL)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	backoff := dspex.BackoffFunc(func(attempt int) time.Duration { return time.Duration(attempt) * 150 * time.Millisecond })
	reply, err := client.ExecuteAnonymous(ctx, "request", nil, dspex.WithMaxRetries(3), dspex.WithBackoff(backoff))
	if err != nil {
		log.Fatal(err)
	}
	var sent struct {
		Body struct{ Options map[string]any }
	}
	fmt.Println(reply.Decode(&sent), sent.Body.Options["backoff"])
	// Output: <nil> [150 300 450]
}

func ExampleClient_Stats() {
	ctx := context.Background()
	client, err := dspex.Connect(ctx, exampleURL)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	health, err := client.Health(ctx)
	if err != nil {
		log.Fatal(err)
	}
	stats, err := client.Stats(ctx)
	fmt.Println(health.Status, stats.PoolSize, stats.AvailableWorkers, err)
	// Output: healthy 4 2 <nil>
}

func ExampleClient_Sessions() {
	ctx := context.Background()
	client, err := dspex.Connect(ctx, exampleURL)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	for session, err := range client.Sessions(ctx, dspex.SessionFilter{Prefix: "a_", Idle: time.Minute, Limit: 2}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(session.SessionID, session.WorkerID, session.Operations)
	}
	// Output:
	// a_1 h1/0 12
	// a_2 h1/0 12
}
