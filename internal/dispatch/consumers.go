package dispatch

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/micro"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// listConsumers tells the consumers of our work queues that are not dspex's.
func (d *Dispatcher) listConsumers(ctx context.Context, r micro.Request) {
	if !askedNothing(r) {
		return
	}
	all, err := stream.Strangers(ctx, d.js)
	if err != nil {
		refuse(r, unreadable(err))
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
	respondResult(r, map[string]any{"consumers": list})
}

// removeConsumer deletes a consumer that is not dspex's: an operator's word.
func (d *Dispatcher) removeConsumer(ctx context.Context, r micro.Request) {
	var name, consumer string
	queue := func(s string) bool { return s == stream.Jobs || s == stream.Anonymous }
	bad := readBody(r, `{"stream": "...", "consumer": "..."}`, map[string]*entry{
		"stream":   textEntry(&name, stream.Jobs+" or "+stream.Anonymous, queue).needed(),
		"consumer": textEntry(&consumer, "a consumer's name", func(s string) bool { return s != "" && len(s) <= mostConsumerName }).needed(),
	})
	if bad != nil {
		refuse(r, bad)
		return
	}
	switch was, err := stream.RemoveStranger(ctx, d.js, name, consumer); {
	case errors.Is(err, stream.ErrOurs):
		refuse(r, jobs.Refused(jobs.CodeBadRequest, "consumer", "a consumer that `dspex consumers list` shows", "the consumer is dspex's own"))
	case err != nil:
		refuse(r, unreadable(err))
	case !was:
		e := jobs.Errorf(jobs.Session, jobs.CodeConsumerUnknown, "the stream has no such consumer")
		e.Path = "consumer"
		refuse(r, e)
	default:
		d.log.Warn("foreign_consumer_removed", "stream", name, "consumer", consumer)
		if err := d.lookForStrangers(ctx); err != nil {
			d.log.Debug("stores_not_seen", "error", err)
		}
		respondResult(r, map[string]any{"stream": name, "consumer": consumer})
	}
}

// mostConsumerName bounds a name; the broker's own bound is the same.
const mostConsumerName = 255
