package dspextest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/dspextest"
)

// summarize is what a program does with dspex.
func summarize(ctx context.Context, c *dspex.Client, text string) (string, error) {
	reply, err := c.Execute(ctx, "user_123", "predict", dspex.Args{"text": text}, dspex.WithOutputs("summary"))
	summary, _ := reply.Outputs()["summary"].(string)
	return summary, err
}

// t stands for the *testing.T of a test: examples have none.
var t example

// The test itself answers each command.
func ExampleFake_Handle() {
	fake := dspextest.NewFake(t)
	fake.Handle("predict", func(j dspextest.Job) (any, error) {
		if j.Args["text"] == "" {
			return nil, errors.New("nothing to summarize")
		}
		return map[string]any{"summary": "short"}, nil
	})

	fmt.Println(summarize(t.Context(), fake.Client(), "a long text"))
	fmt.Println(summarize(t.Context(), fake.Client(), ""))
	// Output:
	// short <nil>
	//  python (user_error): nothing to summarize
}

// The jobs that came can be checked afterwards.
func ExampleFake_Jobs() {
	fake := dspextest.NewFake(t)
	client, err := dspex.Connect(t.Context(), fake.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Submit(t.Context(), "user_123", "predict", dspex.Args{"question": "Paris?"}, dspex.WithJobID("paris-1")); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Wait(t.Context(), dspex.JobRef{Session: "user_123", ID: "paris-1"}); err != nil {
		t.Fatal(err)
	}
	for _, job := range fake.Jobs() {
		fmt.Println(job.JobRef, job.Command, job.Args["question"])
	}
	// Output: user_123/paris-1 predict Paris?
}

// A test that runs without Python; with TEST_MODE=bridge_mock or full_integration the same test runs there.
func ExampleOpen() {
	pool := dspextest.Open(t, dspextest.WithWorkers(1), dspextest.WithMode(dspextest.MockAdapter), dspextest.WithScenario(
		dspextest.Rule{Command: "predict", Where: map[string]any{"text": "a long text"}, Outputs: map[string]any{"summary": "short"}},
		dspextest.Rule{Where: map[string]any{"text": "a long text"}, Error: &dspextest.Failure{Category: dspex.ErrConnection}, Times: 2},
	))
	fmt.Println(pool.Mode())
	fmt.Println(summarize(t.Context(), pool.Client(), "a long text")) // the third attempt succeeds
	// Output:
	// mock_adapter
	// short <nil>
}

// A failure that no attempt cures, and one that reports when to come again.
func ExampleWithScenario() {
	pool := dspextest.Open(t, dspextest.WithWorkers(1), dspextest.WithMode(dspextest.MockAdapter), dspextest.WithScenario(
		dspextest.Rule{Where: map[string]any{"text": "broken"}, Error: &dspextest.Failure{Category: dspex.ErrPython, Code: "user_error", Permanent: true}},
		dspextest.Rule{Where: map[string]any{"text": "busy"}, Error: &dspextest.Failure{Category: dspex.ErrResource, RetryAfter: time.Second, Permanent: true}},
	))
	client := pool.Client()

	_, err := summarize(t.Context(), client, "broken")
	fmt.Println(errors.Is(err, dspex.ErrPython), errors.Is(err, dspex.ErrResource))
	_, err = summarize(t.Context(), client, "busy")
	if failure, ok := errors.AsType[*dspex.Error](err); ok {
		fmt.Println(failure.Code, failure.RetryAfter)
	}
	// Output:
	// true false
	// injected 1s
}

// A file of rules is what `dspex dev --scenario` reads, too.
func ExampleWithScenarioFile() {
	file := t.TempDir() + "/scenario.json"
	rules := `{"rules": [{"command": "predict", "where": {"text": "a long text"}, "outputs": {"summary": "short"}}]}`
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	pool := dspextest.Open(t, dspextest.WithWorkers(1), dspextest.WithMode(dspextest.MockAdapter), dspextest.WithScenarioFile(file))
	client, err := dspex.Connect(t.Context(), pool.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	fmt.Println(summarize(t.Context(), client, "a long text"))
	// Output: short <nil>
}

// example is a testing.TB without a test. What it opens ends after the last example.
type example struct{ testing.TB }

var opened []func()

func (example) Helper() {}

func (example) Context() context.Context { return context.Background() }

func (example) Cleanup(end func()) { opened = append(opened, end) }

func (e example) TempDir() string {
	dir, err := os.MkdirTemp("", "dspextest")
	if err != nil {
		panic(err)
	}
	e.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (example) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

func (example) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (example) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func TestMain(m *testing.M) {
	status := m.Run()
	for _, end := range slices.Backward(opened) {
		end()
	}
	os.Exit(status)
}
