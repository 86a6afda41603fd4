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
	fmt.Println(reply.Outputs()["answer"], reply.SessionState)
	// Output: Paris? warm
}

func ExampleClient_Execute_errors() {
	client := exampleClient()
	_, err := client.Execute(context.Background(), "user_123", "busy", nil,
		dspex.WithMaxRetries(3), dspex.WithBackoff(dspex.Exponential()), dspex.WithTimeout(30*time.Second))
	var failure *dspex.Error
	switch {
	case errors.Is(err, dspex.ErrTimeout):
		fmt.Println("too slow")
	case errors.Is(err, dspex.ErrResource) && errors.As(err, &failure):
		fmt.Println("no capacity, again in", failure.RetryAfter)
	case err != nil:
		fmt.Println("something else:", err)
	}
	// Output: no capacity, again in 250ms
}

func ExampleClient_Execute_invalid() {
	client := exampleClient()
	_, err := client.Execute(context.Background(), "user_123", "predict", nil, dspex.WithMaxRetries(25))
	fmt.Println(errors.Is(err, dspex.ErrInvalid))
	fmt.Println(err)
	// Output:
	// true
	// bad_option: max_retries must be 0 to 20, got 25: options.max_retries
}

func ExampleClient_Execute_cancelled() {
	client := exampleClient()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := client.Execute(ctx, "user_123", "predict", dspex.Args{"question": "Paris?"})
	fmt.Println(errors.Is(err, context.Canceled))
	fmt.Println(err)
	// Output:
	// true
	// client_cancelled: the context was cancelled
}

func ExampleClient_ExecuteAnonymous() {
	client := exampleClient()
	reply, err := client.ExecuteAnonymous(context.Background(), "predict", dspex.Args{"text": "I love this product!"}, dspex.WithTimeout(time.Minute))
	fmt.Println(string(reply.Result), err)
	// Output: {"answer":"I love this product!"} <nil>
}

func ExampleClient_Stream() {
	client := exampleClient()
	for chunk, err := range client.Stream(context.Background(), "user_123", "predict", dspex.Args{"question": "one two three"}) {
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
	client := exampleClient()
	backoff := dspex.BackoffFunc(func(attempt int) time.Duration { return time.Duration(attempt) * 150 * time.Millisecond })
	reply, err := client.ExecuteAnonymous(context.Background(), "request", nil, dspex.WithMaxRetries(3), dspex.WithBackoff(backoff))
	if err != nil {
		log.Fatal(err)
	}
	var sent struct {
		Body struct{ Options map[string]any }
	}
	fmt.Println(reply.Decode(&sent), sent.Body.Options["backoff"])
	// Output: <nil> [150 300 450]
}

func ExampleWithSignature() {
	client := exampleClient()
	reply, err := client.ExecuteAnonymous(context.Background(), "request", dspex.Args{"review": "I love it"},
		dspex.WithSignature("review -> sentiment: Literal['good', 'bad'], score: float"), dspex.WithModule("chain_of_thought"))
	if err != nil {
		log.Fatal(err)
	}
	var sent struct {
		Body struct{ Options map[string]any }
	}
	fmt.Println(reply.Decode(&sent), sent.Body.Options["signature"])
	// Output: <nil> review -> sentiment: Literal['good', 'bad'], score: float
}
