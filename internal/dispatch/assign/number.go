package assign

import (
	"context"
	"errors"
	"log/slog"

	"github.com/dspex/dspex/internal/dispatch/endpoint"
	"github.com/dspex/dspex/internal/dispatch/fleet"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// mostPartitions: the consumers of one partition may be four while it moves, and a stream has a thousand by the broker's default.
const mostPartitions = 250

// Number serves the requests about the number of partitions.
type Number struct {
	view   *View
	hosts  *fleet.Fleet
	broker *stream.Access
	log    *slog.Logger
}

// NewNumber shows and changes what view has.
func NewNumber(view *View, hosts *fleet.Fleet, broker *stream.Access, log *slog.Logger) *Number {
	return &Number{view: view, hosts: hosts, broker: broker, log: log}
}

// Get reports how many partitions there are, and how far a change is.
func (n *Number) Get(ctx context.Context, r endpoint.Request) {
	if endpoint.TakesNothing(r) {
		n.answer(ctx, r)
	}
}

func (n *Number) answer(ctx context.Context, r endpoint.Request) {
	now, err := n.view.Read(ctx)
	if err != nil {
		endpoint.Refuse(r, endpoint.Unreadable(err))
		return
	}
	serving, waiting, left := now.Serving.Partitions, uint64(0), 0
	if now.Changing() {
		waiting, err = stream.Waiting(ctx, n.broker.JS, now.Serving)
	} else if now.Before > 0 {
		var all []entry
		all, err = n.view.entries(ctx, everyKey)
		if left = held(all, now.Serving); left > 0 {
			serving = now.Before
		}
	}
	if err != nil {
		endpoint.Refuse(r, endpoint.Unreadable(err))
		return
	}
	endpoint.RespondResult(r, map[string]any{
		"partitions": now.Next.Partitions, "serving": serving, "changing": now.Changing() || left > 0, "waiting": waiting, "held": left,
	})
}

// Set changes the number.
func (n *Number) Set(ctx context.Context, r endpoint.Request) {
	var number int64
	bad := endpoint.ReadBody(r, `{"partitions": 64}`, map[string]*endpoint.Entry{"partitions": endpoint.Int(&number, "partitions", 1, mostPartitions).Needed()})
	if bad == nil {
		bad = n.allShareShards()
	}
	if bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	err := stream.Repartition(ctx, n.broker.JS, int(number))
	if behind, ok := errors.AsType[*stream.NotCurrentError](err); ok {
		endpoint.Refuse(r, jobs.Errorf(jobs.Connection, jobs.CodeBroker, "%v", behind).WithHint("try again when every server of the cluster runs, and little is stored").Again())
		return
	}
	if err != nil {
		endpoint.Refuse(r, endpoint.Unreadable(err))
		return
	}
	n.log.Warn("partitions_change", "to", number)
	n.view.Wake()
	n.answer(ctx, r)
}

// allShareShards finds a host that could not serve another number.
func (n *Number) allShareShards() *jobs.Error {
	for _, b := range n.hosts.Live() {
		if !b.Shards {
			return jobs.Errorf(jobs.Resource, jobs.CodePoolUnavailable, "every host must be of a release that can share shards, host %s is of an earlier one", b.Host).
				WithHint("start it from this release, then try again")
		}
	}
	return nil
}
