package openai

import (
	"context"
	"iter"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/contract"
)

// answer is an answer in the form of one endpoint.
type answer interface {
	streamTo(out events) sink
	whole(text string, u used) any
}

// serve answers a request: it reads the body, makes a plan of its prompt, and runs that. of makes the answer of the job that runs.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, known map[string]bool, body any, parse func(*http.Request, Caller) (prompt, *failure), of func(prompt, dspex.JobRef) answer) {
	if f := readBody(r, known, body); f != nil {
		f.write(w)
		return
	}
	c := s.Who(r.Context())
	p, f := parse(r, c)
	if f != nil {
		f.write(w)
		return
	}
	job := jobOf(r, c, p.session)
	m, err := s.planned(r.Context(), c, p, job)
	if err != nil {
		failed(err).write(w)
		return
	}
	w.Header().Set(contract.HeaderJob, job.ID)
	out := of(p, job)
	if p.stream {
		if f := s.streamed(r.Context(), c, m, out.streamTo(newEvents(w))); f != nil {
			f.write(w)
		}
		return
	}
	text, u, err := s.whole(r.Context(), c, m)
	if err != nil {
		failed(err).write(w)
		return
	}
	writeJSON(w, http.StatusOK, out.whole(text, u))
}

// whole runs a plan and returns its text.
func (s *Server) whole(ctx context.Context, c Caller, m *plan) (string, used, error) {
	reply, err := execute(ctx, c.Client, m.job.Session, m.command, m.args, m.options...)
	if ctx.Err() != nil {
		s.Left(ctx, m.job)
	}
	if err != nil {
		return "", used{}, err
	}
	text, err := m.answer(reply)
	return text, usageOf(reply), err
}

// tap is the text of a streamed answer so far. A client that reads slowly finds more at once: nothing is queued for it.
type tap struct {
	mu      sync.Mutex
	attempt int
	text    strings.Builder
	reply   *dspex.Reply
	err     error
	changed chan struct{}
}

func (t *tap) take(chunks iter.Seq2[dspex.Chunk, error], m *plan) {
	for chunk, err := range chunks {
		t.mu.Lock()
		switch {
		case err != nil:
			t.err = err
		case chunk.Reply != nil:
			t.reply = chunk.Reply
		default:
			if chunk.Attempt != t.attempt { // the output of an earlier one is void
				t.attempt = chunk.Attempt
				t.text.Reset()
			}
			if m.live && chunk.Call == 0 && chunk.Field == m.field {
				t.text.WriteString(chunk.Text)
			}
		}
		close(t.changed)
		t.changed = make(chan struct{})
		t.mu.Unlock()
	}
}

// now returns what there is to send: whole text without the spaces around it, which the answer may not have.
func (t *tap) now() (text string, reply *dspex.Reply, changed <-chan struct{}, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimFunc(t.text.String(), unicode.IsSpace), t.reply, t.changed, t.err
}

// sink is where a streamed answer goes.
type sink interface {
	begin() // before the first text
	delta(text string) error
	alive() error // a sign of life
	end(text string, u used) error
	fail(*failure) error
}

const beatTime = 15 * time.Second

// streamed runs a plan and sends its text as it comes. What fails before the first text is returned.
func (s *Server) streamed(ctx context.Context, c Caller, m *plan, out sink) *failure {
	over, stop := context.WithCancel(ctx)
	t := &tap{changed: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		if m.job.Session == "" {
			t.take(c.Client.StreamAnonymous(over, m.command, m.args, m.options...), m)
		} else {
			t.take(c.Client.Stream(over, m.job.Session, m.command, m.args, m.options...), m)
		}
	})
	f, gone := relay(ctx, t, m, out)
	stop()
	wg.Wait()
	if gone {
		s.Left(ctx, m.job)
	}
	return f
}

// relay sends what is in a tap. gone: the client went away before the end.
func relay(ctx context.Context, t *tap, m *plan, out sink) (f *failure, gone bool) {
	sent, begun := "", false
	more := func(text string) error {
		if !begun {
			begun = true
			out.begin()
		}
		if !strings.HasPrefix(text, sent) || text == sent {
			return nil // begun again: the end decides
		}
		d := text[len(sent):]
		sent = text
		return out.delta(d)
	}
	beat := time.NewTicker(beatTime)
	defer beat.Stop()
	for {
		text, reply, changed, err := t.now()
		switch {
		case err == nil && reply == nil:
			if text != "" && more(text) != nil {
				return nil, true
			}
		case err == nil:
			answer, bad := m.answer(*reply)
			if err = bad; err != nil {
				break
			}
			if !strings.HasPrefix(answer, sent) {
				err = &failure{status: http.StatusBadGateway, Type: typeOf(http.StatusBadGateway), Code: "stream_void", Message: "the text sent so far is void: the job was retried, or its result differs from its partial output"}
				break
			}
			if more(answer) != nil || out.end(answer, usageOf(*reply)) != nil {
				return nil, ctx.Err() != nil
			}
			return nil, false
		}
		if err != nil {
			if !begun {
				return failed(err), ctx.Err() != nil
			}
			return nil, out.fail(failed(err)) != nil
		}
		select {
		case <-changed:
		case <-beat.C:
			if begun && out.alive() != nil {
				return nil, true
			}
		case <-ctx.Done():
			return nil, true
		}
	}
}
