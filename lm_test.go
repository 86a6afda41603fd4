package dspex_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"testing"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/natstest"
)

func ExampleClient_SetLM() {
	client, ctx := exampleClient(), context.Background()
	// For all jobs that choose none; the key is read by each host from its environment.
	lm, err := client.SetLM(ctx, "gemini-1.5-flash", dspex.WithProvider("gemini"), dspex.WithAPIKey("env:GEMINI_API_KEY"), dspex.WithTemperature(0.2))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(lm.Model, lm.Provider, *lm.Temperature)
	// For one session, a profile of the host as it is.
	lm, err = client.SetLM(ctx, "local", dspex.ForSession("user_123"), dspex.WithoutTemperature())
	fmt.Println(lm.Model, lm.Temperature == nil, err)
	// Output:
	// gemini-1.5-flash gemini 0.2
	// local true <nil>
}

func ExampleClient_Adapter() {
	ctx := context.Background()
	adapter := exampleClient().Adapter()
	id, err := adapter.CreateProgram(ctx, dspex.Args{"id": "qa_bot", "signature": "question -> answer"})
	if err != nil {
		log.Fatal(err)
	}
	reply, err := adapter.ExecuteProgram(ctx, "qa_bot", map[string]any{"question": "Why?"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(id, reply.Outputs()["outputs"])
	fmt.Println(reply.Job.Session == adapter.Session())
	fmt.Println(adapter.Close(ctx))
	// Output:
	// qa_bot map[question:Why?]
	// true
	// <nil>
}

// asked returns what a fake was sent by one use of the client.
func asked(t *testing.T, use func(*dspex.Client) error) []natstest.FakeJob {
	t.Helper()
	s := natstest.Run(t)
	fake := natstest.StartFake(t, s)
	c, err := dspex.Connect(t.Context(), s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := use(c); err != nil {
		t.Fatal(err)
	}
	return fake.Jobs()
}

func TestAChoiceOfLanguageModelIsSentAsItIsMade(t *testing.T) {
	jobs := asked(t, func(c *dspex.Client) error {
		_, err := c.SetLM(t.Context(), "gpt-4o", dspex.ForSession("s1"), dspex.WithAPIKey("env:TEAM_KEY"), dspex.WithMaxTokens(50), dspex.WithTemperature(0))
		if err != nil {
			return err
		}
		_, err = c.SetLM(t.Context(), "fast")
		return err
	})
	if got := fmt.Sprint(jobs[0].Session, jobs[0].Args); got != "s1map[api_key:env:TEAM_KEY max_tokens:50 model:gpt-4o temperature:0]" {
		t.Errorf("in a session: %s", got)
	}
	if got := fmt.Sprint(jobs[1].Session, jobs[1].Args); got != "map[model:fast]" {
		t.Errorf("for all: %s", got)
	}
}

func TestAKeyOrASessionThatIsNoneIsNotSent(t *testing.T) {
	jobs := asked(t, func(c *dspex.Client) error {
		var e *dspex.Error
		if _, err := c.SetLM(t.Context(), "gpt-4o", dspex.WithAPIKey("sk-secret")); !errors.As(err, &e) || e.Code != dspex.CodeSecret || !errors.Is(err, dspex.ErrInvalid) {
			t.Errorf("a key: %v", err)
		}
		if _, err := c.SetLM(t.Context(), "gpt-4o", dspex.ForSession("")); !errors.As(err, &e) || e.Code != dspex.CodeBadSession {
			t.Errorf("an empty session: %v", err)
		}
		return nil
	})
	if len(jobs) != 0 {
		t.Errorf("%d requests were sent", len(jobs))
	}
}

func TestACallGoesToTheSessionThatItsArgumentsName(t *testing.T) {
	jobs := asked(t, func(c *dspex.Client) error {
		reply, err := c.ExecuteAnonymous(t.Context(), "cleanup_session", dspex.Args{"session_id": "s1"})
		if err != nil {
			return err
		}
		if reply.Job.Session != "s1" {
			t.Errorf("the job is %v", reply.Job)
		}
		_, err = c.Admin().ExecuteAnonymous(t.Context(), "set_lm", dspex.Args{"session_id": "s2", "model": "m"})
		if err != nil {
			return err
		}
		_, err = c.ExecuteAnonymous(t.Context(), "echo", dspex.Args{"session_id": "s3"})
		return err
	})
	for i, want := range []string{"s1", "s2", ""} {
		if jobs[i].Session != want {
			t.Errorf("%s went to the session %q, want %q", jobs[i].Command, jobs[i].Session, want)
		}
	}
}
