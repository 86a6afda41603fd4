package dspex_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
)

func ExampleNew() {
	nc, err := nats.Connect(exampleURL)
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	client := dspex.New(nc) // on a connection that the program has already
	fmt.Println(client.Connected())
	// Output: true
}

// Options of nats.go, such as credentials and TLS, are passed on.
func ExampleWithNATS() {
	client, err := dspex.Connect(context.Background(), exampleURL, dspex.WithNATS(nats.Name("billing"), nats.MaxReconnects(-1)))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	fmt.Println(client.Connected())
	// Output: true
}

// An account that imports the subjects of dspex under the prefix "prod".
func ExampleWithSubjectPrefix() {
	client := dspex.New(exampleConn(), dspex.WithSubjectPrefix("prod"))
	reply, err := client.Execute(context.Background(), "user_123", "predict", dspex.Args{"question": "Paris?"})
	fmt.Println(reply.Outputs()["answer"], err)
	// Output: Paris? <nil>
}

// On a leaf node a job could be stored in the leaf's own JetStream instead of that of dspex. This makes it an error.
func ExampleWithJetStreamDomain() {
	ctx := context.Background()
	for _, domain := range []string{"hub", "leaf"} {
		client := dspex.New(exampleConn(), dspex.WithJetStreamDomain(domain))
		_, err := client.Submit(ctx, "user_42", "predict", dspex.Args{"question": "where?"})
		var failure *dspex.Error
		fmt.Println(domain, err == nil, errors.As(err, &failure) && failure.Code == dspex.CodeWrongDomain)
	}
	// Output:
	// hub true false
	// leaf false true
}

const exampleSpan = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// sentSpan is the span that a job belongs to, as its request has it.
func sentSpan(client *dspex.Client, opts ...dspex.CallOption) any {
	reply, err := client.ExecuteAnonymous(context.Background(), "request", nil, opts...)
	if err != nil {
		log.Fatal(err)
	}
	var sent struct{ Headers map[string][]string }
	if err := reply.Decode(&sent); err != nil {
		log.Fatal(err)
	}
	return sent.Headers["traceparent"]
}

// Every job of this client belongs to a span of its caller.
func ExampleWithPropagator() {
	client := dspex.New(exampleConn(), dspex.WithPropagator(func(context.Context) string { return exampleSpan }))
	fmt.Println(sentSpan(client))
	// Output: [00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01]
}

// One job belongs to a span.
func ExampleWithTraceparent() {
	fmt.Println(sentSpan(exampleClient(), dspex.WithTraceparent(exampleSpan)))
	// Output: [00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01]
}
