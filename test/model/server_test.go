//go:build model

package model

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dspex/dspex"
)

// What a server does beside answering. One server serves all of it; the parts have an order, since it is stopped and started.
func TestARealServer(t *testing.T) {
	s := newServer(t, 2)
	s.start(t)
	ctx, c := dev(t, s, "more")
	t.Run("streams its answer", func(t *testing.T) { streams(ctx, t, c) })
	t.Run("is free again when a job has been cancelled", func(t *testing.T) { cancelled(ctx, t, s, c) })
	t.Run("is free again when the time of a job is over", func(t *testing.T) { timedOut(ctx, t, s, c) })
	t.Run("has fewer slots than callers", func(t *testing.T) { crowd(ctx, t, s, c) })
	t.Run("refuses a prompt that is too long", func(t *testing.T) { tooLong(ctx, t, c) })
	t.Run("is stopped in the middle of a call, and loads", func(t *testing.T) { stopped(ctx, t, s, c) })
}

func streams(ctx context.Context, t *testing.T, c *dspex.Client) {
	var text strings.Builder
	var result any
	chunks := 0
	for chunk, err := range c.StreamAnonymous(ctx, "execute_program", program("told", map[string]any{"question": "Who was the first man on the moon?"})) {
		switch {
		case err != nil:
			t.Fatal(err)
		case chunk.Reply != nil:
			result = chunk.Reply.Outputs()["outputs"].(map[string]any)["answer"]
		default:
			chunks++
			text.WriteString(chunk.Text)
		}
	}
	if text.String() != result || chunks < 2 {
		t.Errorf("%d chunks make %q, the answer is %q", chunks, text.String(), result)
	}
}

// long is an answer that would take the server minutes.
const long = 800

// freed waits until the server reports that its slot is free, and checks that it has not come to the end of the answer.
func freed(ctx context.Context, t *testing.T, s *server, from int) {
	t.Helper()
	ended := time.Now()
	_, from = s.said.await(ctx, t, from, cancel)
	tokens, _ := s.said.await(ctx, t, from, frees)
	t.Logf("the slot was free %v after the job's end", time.Since(ended).Round(time.Millisecond))
	if n, err := strconv.Atoi(tokens[0]); err != nil || n >= long {
		t.Errorf("the server wrote all of its answer: %d tokens", n)
	}
	if n := s.busy(t); n != 0 {
		t.Errorf("%d slots are busy", n)
	}
}

func cancelled(ctx context.Context, t *testing.T, s *server, c *dspex.Client) {
	from := len(s.said.String())
	r, err := c.Submit(ctx, "cancels", "execute_program", program("tale", map[string]any{"tokens": long}))
	if err != nil {
		t.Fatal(err)
	}
	_, from = s.said.await(ctx, t, from, begins)
	job, err := c.Cancel(ctx, r.Job)
	if err != nil || job.Status != dspex.JobCancelled {
		t.Fatalf("%+v %v", job, err)
	}
	freed(ctx, t, s, from)
}

func timedOut(ctx context.Context, t *testing.T, s *server, c *dspex.Client) {
	from := len(s.said.String())
	_, err := c.ExecuteAnonymous(ctx, "execute_program", program("tale", map[string]any{"tokens": long}), dspex.WithTimeout(5*time.Second), dspex.WithMaxRetries(0))
	if !errors.Is(err, dspex.ErrTimeout) {
		t.Fatal(err)
	}
	freed(ctx, t, s, from)
}

func crowd(ctx context.Context, t *testing.T, s *server, c *dspex.Client) {
	var callers sync.WaitGroup
	for n := range 3 * s.slots {
		callers.Go(func() {
			r, err := c.ExecuteAnonymous(ctx, "execute_program", program("yes", map[string]any{"question": fmt.Sprintf("Is %d even?", n)}))
			if err != nil || r.Attempt != 1 {
				t.Errorf("caller %d, attempt %d: %v", n, r.Attempt, err)
			}
		})
	}
	callers.Wait()
}

func tooLong(ctx context.Context, t *testing.T, c *dspex.Client) {
	inputs := map[string]any{"question": strings.Repeat("why ", 2*tokensOfASlot)}
	_, err := c.ExecuteAnonymous(ctx, "execute_program", program("yes", inputs))
	if e, ok := errors.AsType[*dspex.Error](err); !ok || e.Code != "lm_context_window" || e.PythonType != "ContextWindowExceededError" {
		t.Errorf("%+v", err)
	}
	r, err := c.ExecuteAnonymous(ctx, "execute_program", program("catches", inputs))
	if err != nil || r.Outputs()["outputs"].(map[string]any)["caught"] != true {
		t.Errorf("%s %v", r.Raw, err)
	}
}

// stopped ends the server under a call and starts it again. While it loads its model, a second call comes.
func stopped(ctx context.Context, t *testing.T, s *server, c *dspex.Client) {
	patient := []dspex.SubmitOption{dspex.WithMaxRetries(20), dspex.WithBackoff(dspex.Delays(2*time.Second, 2*time.Second, 5*time.Second))}
	from := len(s.said.String())
	first, err := c.Submit(ctx, "first", "execute_program", program("tale", map[string]any{"tokens": 60}), patient...)
	if err != nil {
		t.Fatal(err)
	}
	_, from = s.said.await(ctx, t, from, begins)
	s.stop()
	again := make(chan struct{})
	go func() {
		defer close(again)
		s.start(t)
	}()
	s.said.await(ctx, t, from, loads)
	if status := s.status(t); status != 503 {
		t.Errorf("a server that loads answers %d, want 503", status)
	}
	second, err := c.Submit(ctx, "second", "execute_program", program("yes", map[string]any{"question": "Is it late?"}), patient...)
	if err != nil {
		t.Fatal(err)
	}
	<-again
	for _, job := range []dspex.JobRef{first.Job, second.Job} {
		if r, err := c.Wait(ctx, job); err != nil || r.Attempt < 2 {
			t.Errorf("%s, attempt %d: %v", job, r.Attempt, err)
		}
	}
}
