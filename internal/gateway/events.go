package gateway

import (
	"context"
	"crypto/sha256"
	"iter"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/contract"
)

// Times of a stream of events.
const (
	openTime = time.Second      // a call that is refused by then is answered with its status
	beatTime = 15 * time.Second // between two signs of life, for proxies on the way
)

// streamed answers with the events of a call. Partial output is kept for a client that comes back.
func (g *Gateway) streamed(ctx context.Context, job dspex.JobRef, in *RunInput) (*answer, error) {
	from, problem := seen(in.LastEvent)
	if problem != nil {
		return nil, problem
	}
	c, options := who(ctx), in.callOptions(job)
	if c.operates(job.Session, &in.Body) {
		return nil, refused(http.StatusBadRequest, contract.CodeBadOption, "header.Accept", "left out", "operators' commands do not stream")
	}
	request := sha256.Sum256(in.RawBody)
	f, problem := g.feeds.start(feedKey{c.tenant, job}, request, func(ctx context.Context) iter.Seq2[dspex.Chunk, error] {
		if job.Session == "" {
			return c.client.StreamAnonymous(ctx, in.Body.Command, in.Body.arguments(), options...)
		}
		return c.client.Stream(ctx, job.Session, in.Body.Command, in.Body.arguments(), options...)
	})
	if problem != nil {
		return nil, problem
	}
	if p := f.opened(ctx); p != nil {
		return nil, p
	}
	return &answer{Job: job.ID, Type: eventStream, Body: func(c huma.Context) {
		if !g.relay(c, f, from) && in.Leave {
			g.cancelLeft(ctx, job)
		}
	}}, nil
}

// opened waits a moment for the first event, and returns why the call was refused if it was.
func (f *feed) opened(ctx context.Context) *problem {
	wait := time.NewTimer(openTime)
	defer wait.Stop()
	texts, _, ended, changed := f.read(0)
	if len(texts) == 0 && !ended {
		select {
		case <-changed:
		case <-wait.C:
		case <-ctx.Done():
		}
		texts, _, ended, _ = f.read(0)
	}
	if ended && len(texts) == 0 {
		return f.problem
	}
	return nil
}

// seen is what a client had when its connection broke.
func seen(lastEvent string) (position, *problem) {
	if lastEvent == "" {
		return before, nil
	}
	p, ok := parsePosition(lastEvent)
	if !ok {
		return p, refused(http.StatusBadRequest, contract.CodeBadHeader, "header.Last-Event-ID", "the id of an event of this job, such as 1.17", "there is no such event")
	}
	return p, nil
}

// relay writes the events behind a position as they come, to the last one. It reports whether the client got it.
func (g *Gateway) relay(c huma.Context, f *feed, from position) bool {
	r, w := humago.Unwrap(c)
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	beat := time.NewTicker(beatTime)
	defer beat.Stop()
	g.metrics.streams.Inc()
	defer g.metrics.streams.Dec()
	for at := f.seek(from); ; {
		texts, next, ended, changed := f.read(at)
		at = next
		if ended {
			texts = append(texts, f.last())
		}
		for _, text := range texts {
			if _, err := w.Write(text); err != nil {
				return false
			}
		}
		if err := flush.Flush(); err != nil || ended {
			return err == nil
		}
		select {
		case <-changed:
		case <-beat.C:
			if _, err := w.Write([]byte(": \n\n")); err != nil {
				return false
			}
		case <-r.Context().Done():
			return false
		}
	}
}

type eventsInput struct {
	JobInput
	LastEvent string `header:"Last-Event-ID" doc:"The last event that the client has; later ones are sent"`
}

// getEvents goes on with a stream. Where this gateway has none of the job, the answer is its end alone.
func (g *Gateway) getEvents(ctx context.Context, in *eventsInput) (*answer, error) {
	job, caller := in.job(), who(ctx)
	if p := caller.maySee(job); p != nil {
		return nil, p
	}
	if in.LastEvent == endID {
		return &answer{Body: func(c huma.Context) { c.SetStatus(http.StatusNoContent) }}, nil // with which browsers do not reconnect
	}
	from, problem := seen(in.LastEvent)
	if problem != nil {
		return nil, problem
	}
	f := g.feeds.find(feedKey{caller.tenant, job})
	if f == nil {
		if _, err := caller.client.GetJob(ctx, job); err != nil {
			return nil, asProblem(err, job)
		}
		f = newFeed(feedKey{job: job}, [sha256.Size]byte{})
		over, end := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { // ends with the request
			defer close(done)
			f.await(over, caller.client)
		}()
		return &answer{Job: job.ID, Type: eventStream, Body: func(c huma.Context) {
			g.relay(c, f, from)
			end()
			<-done
		}}, nil
	}
	return &answer{Job: job.ID, Type: eventStream, Body: func(c huma.Context) { g.relay(c, f, from) }}, nil
}

// await ends the feed as the job ends.
func (f *feed) await(ctx context.Context, client *dspex.Client) {
	reply, err := client.Wait(ctx, f.key.job)
	if err != nil {
		f.end(nil, asProblem(err, f.key.job))
		return
	}
	f.end(oneLine(reply.Raw), nil)
}
