package dspex

import (
	"context"

	"github.com/dspex/dspex/internal/contract"
)

// ForeignConsumer is a consumer of the queues of jobs that is not dspex's: it takes jobs away, or keeps a partition from being
// served.
type ForeignConsumer struct {
	Stream   string   `json:"stream"`
	Consumer string   `json:"consumer"`
	Filters  []string `json:"filters"` // subjects
}

// Consumers lists the consumers of others on the queues of jobs. Health names them, too.
func (a *Admin) Consumers(ctx context.Context) ([]ForeignConsumer, error) {
	reply, err := a.c.ask(ctx, contract.RPCConsumersList, struct{}{})
	if err != nil {
		return nil, err
	}
	var all struct {
		Consumers []ForeignConsumer `json:"consumers"`
	}
	if err := reply.Decode(&all); err != nil {
		return nil, badReply("the list of consumers is not the expected JSON: %v", err)
	}
	return all.Consumers, nil
}

// RemoveConsumer removes a consumer of others. Those of dspex itself are refused.
func (a *Admin) RemoveConsumer(ctx context.Context, stream, consumer string) error {
	_, err := a.c.ask(ctx, contract.RPCConsumersRemove, map[string]any{"stream": stream, "consumer": consumer})
	return err
}
