package dspex_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/dspex/dspex"
)

func ExampleClient_Submit() {
	client, ctx := exampleClient(), context.Background()
	receipt, err := client.Submit(ctx, "user_123", "predict", dspex.Args{"question": "later"}, dspex.WithJobID("order-17"))
	if err != nil {
		log.Fatal(err)
	}
	reply, err := client.Wait(ctx, receipt.Job)
	fmt.Println(receipt.Job, reply.Outputs()["answer"], err)
	// Output: user_123/order-17 later <nil>
}

func ExampleClient_SubmitAnonymous() {
	client, ctx := exampleClient(), context.Background()
	receipt, err := client.SubmitAnonymous(ctx, dspex.LaneBatch, "predict", dspex.Args{"text": "no hurry"}, dspex.WithJobID("batch-1"))
	if err != nil {
		log.Fatal(err)
	}
	reply, err := client.Wait(ctx, receipt.Job)
	fmt.Println(reply.Outputs()["answer"], err)
	// Output: no hurry <nil>
}

// The order and its receipt are stored, or neither is. Submitted again with the same ids they do not run again.
func ExampleClient_SubmitAll() {
	client, ctx := exampleClient(), context.Background()
	accepted, err := client.SubmitAll(ctx, []dspex.NewJob{
		{Session: "user_8", Command: "predict", Args: dspex.Args{"question": "order"}, Options: []dspex.SubmitOption{dspex.WithJobID("order-18")}},
		{Session: "user_9", Command: "predict", Args: dspex.Args{"question": "receipt"}, Options: []dspex.SubmitOption{dspex.WithJobID("receipt-18")}},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, job := range accepted {
		reply, err := client.Wait(ctx, job)
		fmt.Println(job, reply.Outputs()["answer"], err)
	}
	// Output:
	// user_8/order-18 order <nil>
	// user_9/receipt-18 receipt <nil>
}

func ExampleWithJobID() {
	client, ctx := exampleClient(), context.Background()
	for range 2 {
		receipt, err := client.Submit(ctx, "user_7", "predict", dspex.Args{"question": "once"}, dspex.WithJobID("once-1"))
		if err != nil {
			log.Fatal(err)
		}
		reply, err := client.Wait(ctx, receipt.Job)
		fmt.Println(receipt.Job.ID, reply.Outputs()["answer"], err)
	}
	// Output:
	// once-1 once <nil>
	// once-1 once <nil>
}

func ExampleClient_GetJob() {
	client, ctx := exampleClient(), context.Background()
	receipt, err := client.Submit(ctx, "user_123", "boom", nil)
	if err != nil {
		log.Fatal(err)
	}
	_, _ = client.Wait(ctx, receipt.Job)
	job, err := client.GetJob(ctx, receipt.Job)
	fmt.Println(job.Status, job.Status.Final(), errors.Is(job.Err, dspex.ErrPython), err)
	// Output: failed true true <nil>
}

func ExampleClient_Cancel() {
	client, ctx := exampleClient(), context.Background()
	_, err := client.Cancel(ctx, dspex.JobRef{Session: "user_123", ID: "never-seen"})
	var failure *dspex.Error
	fmt.Println(errors.As(err, &failure), failure.Code)
	// Output: true job_unknown
}

func ExampleAdmin_Jobs() {
	for job, err := range exampleClient().Admin().Jobs(context.Background(), dspex.JobFilter{Session: "bob", Limit: 2}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %s %d\n", job.ID, job.Status, job.Attempts)
	}
	// Output:
	// q34 retrying 2
	// order-1 failed 3
}
