// Package dspex is the Go client of dspex: a durable, session-affine pool of Python workers that run DSPy, reached over NATS.
//
// A call waits for its reply ([Client.Execute], [Client.ExecuteAnonymous], [Client.Stream]). A submitted job is stored first
// and its outcome is fetched by its id ([Client.Submit], [Client.Wait]). Jobs of one session run one at a time, in the order
// accepted; what a session knows is kept across workers and hosts.
//
// Every failure is an [*Error] with one of nine categories, each of which is also a target for errors.Is:
//
//	reply, err := client.Execute(ctx, "user_123", "predict", dspex.Args{"question": "What is the capital of France?"})
//	switch {
//	case errors.Is(err, dspex.ErrTimeout):
//		// too slow
//	case errors.Is(err, dspex.ErrResource):
//		// nobody could take it; (*Error).RetryAfter says when to come again
//	case err != nil:
//		// anything else
//	}
//
// The client retries nothing itself: retries, backoff and deadlines travel with the job and are carried out where it runs.
// It speaks the wire of contract/job.md; anything that speaks NATS and JSON can do the same without it.
package dspex
