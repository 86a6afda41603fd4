package dspex_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"time"

	"github.com/dspex/dspex"
)

// sentOptions runs a command of the stand-in that answers with its request, and returns the options in it.
func sentOptions(opts ...dspex.CallOption) map[string]any {
	reply, err := exampleClient().Execute(context.Background(), "user_123", "request", nil, opts...)
	if err != nil {
		log.Fatal(err)
	}
	var sent struct {
		Body struct{ Options map[string]any }
	}
	if err := reply.Decode(&sent); err != nil {
		log.Fatal(err)
	}
	return sent.Body.Options
}

// At most three attempts, after 100 ms and 200 ms, each 10 % shorter or longer at most.
func ExampleWithMaxRetries() {
	sent := sentOptions(dspex.WithMaxRetries(2), dspex.WithBackoff(dspex.Exponential()), dspex.WithJitter(0.1))
	fmt.Println(sent["max_retries"], sent["backoff"], sent["jitter"])
	// Output: 2 exponential 0.1
}

// An attempt may take 30 s. The deadline bounds the whole job, retries included.
func ExampleWithTimeout() {
	fmt.Println(sentOptions(dspex.WithTimeout(30 * time.Second))["timeout"])
	// Output: 30000
}

// The call fails with `state_required` if the session has no state: it never runs on an empty one by mistake.
func ExampleWithRequireState() {
	fmt.Println(sentOptions(dspex.WithRequireState())["require_state"])
	// Output: true
}

// The language model of one call; SetLM chooses that of a session.
func ExampleWithLM() {
	fmt.Println(sentOptions(dspex.WithLM("fast"))["lm"])
	// Output: fast
}

func ExampleReply_Decode() {
	reply, err := exampleClient().ExecuteAnonymous(context.Background(), "echo", dspex.Args{"score": 0.9, "label": "good"})
	if err != nil {
		log.Fatal(err)
	}
	var rating struct {
		Score float64 `json:"score"`
		Label string  `json:"label"`
	}
	err = reply.Decode(&rating)
	fmt.Println(rating.Label, rating.Score, err)
	// Output: good 0.9 <nil>
}

// Pages are for programs that show a list piece by piece; Sessions follows the cursors by itself.
func ExampleAdmin_SessionsPage() {
	admin, ctx := exampleClient().Admin(), context.Background()
	page, err := admin.SessionsPage(ctx, dspex.SessionFilter{Prefix: "a_", Limit: 2}, "")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(page.Items), page.Next != "")
	page, err = admin.SessionsPage(ctx, dspex.SessionFilter{Prefix: "a_", Limit: 2}, page.Next)
	fmt.Println(len(page.Items) > 0, err)
	// Output:
	// 2 true
	// true <nil>
}

func ExampleAdmin_Consumers() {
	admin, ctx := exampleClient().Admin(), context.Background()
	foreign, err := admin.Consumers(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, consumer := range foreign {
		fmt.Println(consumer.Stream, consumer.Consumer, consumer.Filters)
	}
	// Output: DSPEX_JOBS spy [dspex.p.7.>]
}

// A change takes effect while jobs run: Partitions reports its progress.
func ExampleAdmin_SetPartitions() {
	admin, ctx := exampleClient().Admin(), context.Background()
	change, err := admin.SetPartitions(ctx, 16)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(change.Partitions, change.Changing, change.Held)
	change, err = admin.Partitions(ctx)
	fmt.Println(change.Partitions, change.Changing, err)
	// Output:
	// 16 true 3
	// 16 false <nil>
}

// The job and its retries may take 10 minutes in all. After that it is expired and never runs.
func ExampleWithDeadline() {
	fmt.Println(sentOptions(dspex.WithDeadline(10 * time.Minute))["deadline"])
	// Output: 600000
}

// Delays of 100, 200, 300 ms and so on, but none over 250 ms.
func ExampleWithBackoffCap() {
	sent := sentOptions(dspex.WithBackoff(dspex.Linear()), dspex.WithBackoffCap(250*time.Millisecond))
	fmt.Println(sent["backoff"], sent["backoff_cap"])
	// Output: linear 250
}

// The first retry after a second, each later one after five.
func ExampleDelays() {
	fmt.Println(sentOptions(dspex.WithBackoff(dspex.Delays(time.Second, 5*time.Second)))["backoff"])
	// Output: [1000 5000]
}

// A predict without a signature: its arguments are the inputs, and these are the outputs.
func ExampleWithOutputs() {
	fmt.Println(sentOptions(dspex.WithOutputs("summary", "keywords"))["outputs"])
	// Output: [summary keywords]
}

// The reply of a submitted job goes to a subject that another process may subscribe to.
func ExampleWithReplyTo() {
	client, ctx := exampleClient(), context.Background()
	replies, err := exampleConn().SubscribeSync("dspex.reply.orders")
	if err != nil {
		log.Fatal(err)
	}
	if _, err := client.Submit(ctx, "user_123", "predict", dspex.Args{"question": "ready?"}, dspex.WithReplyTo("dspex.reply.orders")); err != nil {
		log.Fatal(err)
	}
	reply, err := replies.NextMsgWithContext(ctx)
	if err != nil {
		log.Fatal(err)
	}
	var body struct {
		OK     bool
		Result map[string]string
	}
	fmt.Println(json.Unmarshal(reply.Data, &body), body.OK, body.Result["answer"])
	// Output: <nil> true ready?
}

func ExampleClient_StreamAnonymous() {
	for chunk, err := range exampleClient().StreamAnonymous(context.Background(), "predict", dspex.Args{"text": "one two"}) {
		switch {
		case err != nil:
			log.Fatal(err)
		case chunk.Reply == nil:
			fmt.Printf("%q\n", chunk.Text)
		}
	}
	// Output:
	// "one "
	// "two"
}
