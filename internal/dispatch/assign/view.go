// Package assign keeps which host has which partition and how many partitions there are, and changes both: the leader plans, and
// operators drain hosts and change the number.
package assign

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"github.com/dspex/dspex/internal/dispatch/stores"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// View is a dispatcher's copy of the assignments.
type View struct {
	broker *stream.Access
	log    *slog.Logger
	last   atomic.Pointer[stream.Layouts]
	woken  chan struct{} // capacity 1: the leader is to plan
}

// NewView is empty before the first Read.
func NewView(broker *stream.Access, log *slog.Logger) *View {
	return &View{broker: broker, log: log, woken: make(chan struct{}, 1)}
}

// Read reads how the sessions are spread.
func (v *View) Read(ctx context.Context) (stream.Layouts, error) {
	now, err := stream.ReadLayouts(ctx, v.broker.JS)
	if err != nil {
		return stream.Layouts{}, err
	}
	if before := v.last.Swap(&now); before != nil && before.Serving != now.Serving {
		v.log.Info("partitions_changed", "from", before.Serving.Partitions, "to", now.Serving.Partitions)
	}
	return now, nil
}

// Reread has the leader plan if the sessions are spread otherwise than was known.
func (v *View) Reread(ctx context.Context) error {
	before := v.last.Load()
	if before == nil {
		return nil
	}
	now, err := v.Read(ctx)
	if err == nil && now != *before {
		v.Wake()
	}
	return err
}

// turned reports, while shards are added, whether the next layout is to be served.
func (v *View) turned(ctx context.Context) bool {
	before := v.last.Load()
	if !before.Changing() {
		return false
	}
	now, err := v.Read(ctx)
	return err == nil && now.Serving != before.Serving
}

// Wake makes the leader plan at once.
func (v *View) Wake() {
	select {
	case v.woken <- struct{}{}:
	default:
	}
}

// Partitions is the number of new jobs' partitions.
func (v *View) Partitions() int { return v.last.Load().Next.Partitions }

// Serving is the number of partitions that hosts are to serve.
func (v *View) Serving() int { return v.last.Load().Serving.Partitions }

// Partition is a session's.
func (v *View) Partition(session string) int { return v.last.Load().Serving.Partition(session) }

// Owners is who has which partition, "" if nobody has it.
func (v *View) Owners(ctx context.Context) (map[int]string, error) {
	now, err := v.Read(ctx)
	if err != nil {
		return nil, err
	}
	owners := map[int]string{}
	all, err := v.entries(ctx, now.Serving.Partitions)
	for n, e := range all {
		if owners[n] = ""; e.In(now.Serving) {
			owners[n] = e.Host
		}
	}
	return owners, err
}

// OwnerOf is who has a session's partition, and in which epoch; while the number changes that may be one of before.
func (v *View) OwnerOf(ctx context.Context, session string) (host string, epoch uint64, err error) {
	now, err := v.Read(ctx)
	if err != nil {
		return "", 0, err
	}
	o, epoch, err := v.broker.Claims.Read(ctx, jobs.AssignmentKey(now.Serving.Partition(session)))
	if err != nil || o.In(now.Serving) || now.Before == 0 {
		return o.Host, epoch, err
	}
	before := now.Serving
	before.Partitions = min(now.Before, before.Shards)
	o, epoch, err = v.broker.Claims.Read(ctx, jobs.AssignmentKey(before.Partition(session)))
	if err != nil || !o.In(before) {
		return "", 0, err
	}
	return o.Host, epoch, nil
}

// entries reads those of the first n partitions, from the bucket's leader.
func (v *View) entries(ctx context.Context, n int) (all []entry, err error) {
	for n := range n {
		o, epoch, err := v.broker.Claims.Read(ctx, jobs.AssignmentKey(n))
		foreign := errors.Is(err, stream.ErrForeign)
		if err != nil && !foreign {
			return nil, err
		}
		all = append(all, entry{o, epoch, foreign})
	}
	return all, nil
}

// Follow wakes the leader when a partition is released, and reports values that none of ours has written.
func (v *View) Follow(ctx context.Context, of *stores.Stores) {
	stream.Follow(ctx, v.broker.JS, stream.Assign, ">", v.log, func(key string, owner []byte) {
		if of.Foreign(stream.Assign, key, owner, stores.OursInAssign(key, owner)) || owner == nil {
			v.Wake()
		}
	})
}
