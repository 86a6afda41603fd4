package dspex_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"time"

	"github.com/dspex/dspex"
)

// questions yields the jobs of the examples: in a program, they come from a file or a table, one at a time.
func questions(yield func(dspex.BatchJob, error) bool) {
	for _, word := range []string{"one", "two", "three"} {
		if !yield(dspex.BatchJob{ID: "row-" + word, Command: "predict", Args: dspex.Args{"question": word}}, nil) {
			return
		}
	}
}

func ExampleClient_SubmitBatch() {
	client, ctx := exampleClient(), context.Background()
	if _, err := client.SubmitBatch(ctx, "eval-1", questions, dspex.BatchConcurrency(8)); err != nil {
		log.Fatal(err)
	}
	batch, err := client.WaitBatch(ctx, "eval-1")
	fmt.Println(batch.Phase, batch.Done(), "of", batch.Jobs, err)
	// Output: ended 3 of 3 <nil>
}

func ExampleClient_BatchResults() {
	client, ctx := exampleClient(), context.Background()
	if _, err := client.SubmitBatch(ctx, "eval-2", questions); err != nil {
		log.Fatal(err)
	}
	if _, err := client.WaitBatch(ctx, "eval-2"); err != nil {
		log.Fatal(err)
	}
	for result, err := range client.BatchResults(ctx, "eval-2", dspex.BatchQuery{}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(result.ID, result.Status, result.Reply.Outputs()["answer"])
	}
	// Output:
	// row-one succeeded one
	// row-two succeeded two
	// row-three succeeded three
}

func ExampleClient_EraseBatch() {
	client, ctx := exampleClient(), context.Background()
	if _, err := client.SubmitBatch(ctx, "eval-3", questions); err != nil {
		log.Fatal(err)
	}
	if _, err := client.WaitBatch(ctx, "eval-3"); err != nil {
		log.Fatal(err)
	}
	_, err := client.EraseBatch(ctx, "eval-3")
	fmt.Println(err)
	// Output: <nil>
}

func ExampleClient_CancelBatch() {
	client, ctx := exampleClient(), context.Background()
	slow := func(yield func(dspex.BatchJob, error) bool) { yield(dspex.BatchJob{Command: "hold"}, nil) }
	if _, err := client.SubmitBatch(ctx, "eval-4", slow); err != nil {
		log.Fatal(err)
	}
	if _, err := client.CancelBatch(ctx, "eval-4"); err != nil {
		log.Fatal(err)
	}
	batch, err := client.WaitBatch(ctx, "eval-4")
	fmt.Println(batch.Phase, batch.Outcomes.Cancelled, err)
	// Output: ended 1 <nil>
}

// Pages are for programs that show the list piece by piece; Batches follows the cursors by itself.
func ExampleClient_BatchesPage() {
	client, ctx := exampleClient(), context.Background()
	if _, err := client.SubmitBatch(ctx, "eval-5", questions); err != nil {
		log.Fatal(err)
	}
	page, err := client.BatchesPage(ctx, 20, "")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(page.Items[0].ID, page.Items[0].Jobs) // the newest first
	for batch, err := range client.Batches(ctx) {
		fmt.Println(batch.ID, err)
		break
	}
	// Output:
	// eval-5 3
	// eval-5 <nil>
}

func ExampleBatchKeep() {
	client, ctx := exampleClient(), context.Background()
	if _, err := client.SubmitBatch(ctx, "eval-6", questions, dspex.BatchKeep(24*time.Hour)); err != nil {
		log.Fatal(err)
	}
	if _, err := client.WaitBatch(ctx, "eval-6"); err != nil {
		log.Fatal(err)
	}
	batch, err := client.GetBatch(ctx, "eval-6")
	fmt.Println(batch.ExpiresAt.Sub(batch.EndedAt), err)
	// Output: 24h0m0s <nil>
}

// A batch whose end is reported to a subject: its submitter need not wait.
func ExampleBatchReplyTo() {
	client, ctx := exampleClient(), context.Background()
	ends, err := exampleConn().SubscribeSync("dspex.reply.evals")
	if err != nil {
		log.Fatal(err)
	}
	if _, err := client.SubmitBatch(ctx, "eval-7", questions, dspex.BatchReplyTo("dspex.reply.evals")); err != nil {
		log.Fatal(err)
	}
	end, err := ends.NextMsgWithContext(ctx)
	if err != nil {
		log.Fatal(err)
	}
	var batch dspex.Batch
	err = json.Unmarshal(end.Data, &batch)
	fmt.Println(batch.ID, batch.Phase, err)
	// Output: eval-7 ended <nil>
}

func ExampleBatchProgress() {
	client, ctx := exampleClient(), context.Background()
	progress := dspex.BatchProgress(func(jobs int) { fmt.Println("uploaded:", jobs) })
	_, err := client.SubmitBatch(ctx, "eval-8", questions, progress)
	fmt.Println(err)
	// Output:
	// uploaded: 3
	// <nil>
}

// Without this option, one invalid job prevents the whole batch from running.
func ExampleBatchSkipInvalid() {
	client, ctx := exampleClient(), context.Background()
	jobs := func(yield func(dspex.BatchJob, error) bool) {
		_ = yield(dspex.BatchJob{Command: "predict", Args: dspex.Args{"question": "one"}}, nil) &&
			yield(dspex.BatchJob{Command: "no_such_command"}, nil)
	}
	if _, err := client.SubmitBatch(ctx, "eval-9", jobs, dspex.BatchSkipInvalid()); err != nil {
		log.Fatal(err)
	}
	batch, err := client.WaitBatch(ctx, "eval-9")
	fmt.Println(batch.Outcomes.Succeeded, batch.Outcomes.Failed, err)
	// Output: 1 1 <nil>
}
