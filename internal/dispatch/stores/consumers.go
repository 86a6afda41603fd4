package stores

import (
	"context"
	"errors"

	"github.com/dspex/dspex/internal/dispatch/endpoint"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// ListConsumers returns the consumers of our work queues that are not dspex's.
func (s *Stores) ListConsumers(ctx context.Context, r endpoint.Request) {
	if !endpoint.TakesNothing(r) {
		return
	}
	all, err := stream.Strangers(ctx, s.broker.JS)
	if err != nil {
		endpoint.Refuse(r, endpoint.Unreadable(err))
		return
	}
	list := []map[string]any{}
	for _, other := range all {
		filters := other.Filters
		if filters == nil {
			filters = []string{}
		}
		list = append(list, map[string]any{"stream": other.Stream, "consumer": other.Consumer, "filters": filters})
	}
	endpoint.RespondResult(r, map[string]any{"consumers": list})
}

// RemoveConsumer deletes a consumer that is not dspex's: an operator's word.
func (s *Stores) RemoveConsumer(ctx context.Context, r endpoint.Request) {
	var name, consumer string
	queue := func(name string) bool { return name == stream.Jobs || name == stream.Anonymous }
	bad := endpoint.ReadBody(r, `{"stream": "...", "consumer": "..."}`, map[string]*endpoint.Entry{
		"stream":   endpoint.Text(&name, stream.Jobs+" or "+stream.Anonymous, queue).Needed(),
		"consumer": endpoint.Text(&consumer, "a consumer's name", func(s string) bool { return s != "" && len(s) <= mostConsumerName }).Needed(),
	})
	if bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	switch was, err := stream.RemoveStranger(ctx, s.broker.JS, name, consumer); {
	case errors.Is(err, stream.ErrOurs):
		endpoint.Refuse(r, jobs.Refused(jobs.CodeBadRequest, "consumer", "a consumer that `dspex consumers list` shows", "the consumer is dspex's own"))
	case err != nil:
		endpoint.Refuse(r, endpoint.Unreadable(err))
	case !was:
		e := jobs.Errorf(jobs.Session, jobs.CodeConsumerUnknown, "the stream has no such consumer")
		e.Path = "consumer"
		endpoint.Refuse(r, e)
	default:
		s.log.Warn("foreign_consumer_removed", "stream", name, "consumer", consumer)
		if err := s.lookForStrangers(ctx); err != nil {
			s.log.Debug("stores_not_seen", "error", err)
		}
		endpoint.RespondResult(r, map[string]any{"stream": name, "consumer": consumer})
	}
}

// mostConsumerName bounds a name; the broker's own bound is the same.
const mostConsumerName = 255
