package dspex_test

import (
	"context"
	"fmt"
	"log"

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
