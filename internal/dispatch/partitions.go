package dispatch

import (
	"context"
	"errors"
	"fmt"

	"github.com/dspex/dspex/internal/dispatch/endpoint"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// The number of partitions is changed under load. From one sequence on the stream puts jobs into partitions of the new layout;
// those of before are served first, where they are. When the last of them has its outcome the leader assigns the partitions
// of the new layout, and hosts follow the assignments. All that has to be known is in the stream, so any leader goes on with it.

// mostPartitions: the consumers of one partition may be four while it moves, and a stream has a thousand by the broker's default.
const mostPartitions = 250

// layouts are those that this dispatcher has read last.
func (d *Dispatcher) layouts() *stream.Layouts { return d.spread.Load() }

// readLayouts reads what is served now.
func (d *Dispatcher) readLayouts(ctx context.Context) (stream.Layouts, error) {
	now, err := stream.ReadLayouts(ctx, d.broker.JS)
	if err != nil {
		return stream.Layouts{}, err
	}
	if before := d.spread.Swap(&now); before != nil && before.Serving != now.Serving {
		d.log.Info("partitions_changed", "from", before.Serving.Partitions, "to", now.Serving.Partitions)
	}
	return now, nil
}

// turned reports, while the number is being changed, whether the next layout is to be served.
func (d *Dispatcher) turned(ctx context.Context) bool {
	before := d.layouts()
	if !before.Changing() {
		return false
	}
	now, err := d.readLayouts(ctx)
	return err == nil && now.Serving != before.Serving
}

// dropBeyond removes what is left of other layouts: assignments of partitions that the one that is served does not have, and
// consumers.
func (d *Dispatcher) dropBeyond(ctx context.Context, l stream.Layout) error {
	if d.swept == l {
		return nil
	}
	beyond := map[int]uint64{}
	page := stream.Page{Messages: mostDrains, Bytes: 8 << 20}
	if _, err := d.broker.Assign.Page(ctx, jobs.AssignmentKeys, page, func(key string, e stream.Entry) error {
		var n int
		if _, err := fmt.Sscanf(key, jobs.AssignmentKey(0)[:2]+"%d", &n); err == nil && key == jobs.AssignmentKey(n) && n >= l.Partitions {
			if beyond[n] = e.Revision; !e.Exists {
				delete(beyond, n)
			}
		}
		return nil
	}); err != nil {
		return fmt.Errorf("assignments: %w", err)
	}
	for n, epoch := range beyond {
		if _, err := d.broker.Assign.Delete(jobs.AssignmentKey(n), epoch); err != nil {
			return fmt.Errorf("partition %d: %w", n, err)
		}
	}
	if err := stream.DropLayouts(ctx, d.broker.JS, l); err != nil {
		return err
	}
	d.swept = l
	return nil
}

// getPartitions tells how many partitions there are, and how far a change is.
func (d *Dispatcher) getPartitions(ctx context.Context, r endpoint.Request) {
	if endpoint.TakesNothing(r) {
		d.tellPartitions(ctx, r)
	}
}

func (d *Dispatcher) tellPartitions(ctx context.Context, r endpoint.Request) {
	now, err := d.readLayouts(ctx)
	if err != nil {
		endpoint.Refuse(r, endpoint.Unreadable(err))
		return
	}
	waiting := uint64(0)
	if now.Changing() {
		if waiting, err = stream.Waiting(ctx, d.broker.JS, now.Serving); err != nil {
			endpoint.Refuse(r, endpoint.Unreadable(err))
			return
		}
	}
	endpoint.RespondResult(r, map[string]any{"partitions": now.Next.Partitions, "serving": now.Serving.Partitions, "changing": now.Changing(), "waiting": waiting})
}

// setPartitions changes the number for what is stored from now on.
func (d *Dispatcher) setPartitions(ctx context.Context, r endpoint.Request) {
	var n int64
	bad := endpoint.ReadBody(r, `{"partitions": 64}`, map[string]*endpoint.Entry{"partitions": endpoint.Int(&n, "partitions", 1, mostPartitions).Needed()})
	if bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	err := stream.Repartition(ctx, d.broker.JS, int(n))
	if behind, ok := errors.AsType[*stream.NotCurrentError](err); ok {
		endpoint.Refuse(r, jobs.Errorf(jobs.Connection, jobs.CodeBroker, "%v", behind).WithHint("try again when every server of the cluster runs, and little is stored").Again())
		return
	}
	if err != nil {
		endpoint.Refuse(r, endpoint.Unreadable(err))
		return
	}
	d.log.Warn("partitions_change", "to", n)
	d.wake()
	d.tellPartitions(ctx, r)
}
