// Package dspex is the Go client of dspex: a durable, session-affine pool of Python workers that run DSPy, reached over NATS.
//
// A call waits for its reply ([Client.Execute], [Client.ExecuteAnonymous], [Client.Stream]). A submitted job is stored first
// and its outcome is fetched by its [JobRef] ([Client.Submit], [Client.Wait], [Client.GetJob]). Jobs of one session run one at a
// time, in the order accepted; a session's state is kept across workers and hosts. [Client.Admin] has what operators do: hosts,
// circuit breakers, dead letters.
//
// Every failure is an [*Error]. A job that failed has one of nine categories, each of which is also a target for errors.Is:
//
//	reply, err := client.Execute(ctx, "user_123", "predict", dspex.Args{"question": "What is the capital of France?"})
//	switch {
//	case errors.Is(err, dspex.ErrTimeout):
//		// too slow
//	case errors.Is(err, dspex.ErrResource):
//		// no capacity; retry after (*Error).RetryAfter
//	case errors.Is(err, dspex.ErrInvalid):
//		// the call itself is wrong; nothing was sent
//	case err != nil:
//		// anything else
//	}
//
// The client retries nothing itself: retries, backoff and deadlines travel with the job and are carried out where it runs.
// It implements the protocol of contract/job.md; any program with NATS and JSON can do the same without it.
//
// Package dspextest has a stand-in and a whole deployment in the test's own process, for tests of programs that use this client.
package dspex
