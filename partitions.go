package dspex

import (
	"context"
	"encoding/json"

	"github.com/dspex/dspex/internal/contract"
)

// Partitions is the number of partitions, and the progress of a change.
type Partitions struct {
	Partitions int             `json:"partitions"` // of jobs that are stored from now on
	Serving    int             `json:"serving"`    // that hosts serve: another number while a change goes on
	Changing   bool            `json:"changing"`
	Held       int             `json:"held"`    // partitions from before the change that hosts have not given back
	Waiting    uint64          `json:"waiting"` // jobs from before the change that have no outcome, where they must be served first
	Raw        json.RawMessage `json:"-"`
}

// Partitions returns the number of partitions, and the progress of a change.
func (a *Admin) Partitions(ctx context.Context) (Partitions, error) {
	return a.partitions(ctx, contract.RPCPartitionsGet, struct{}{})
}

// SetPartitions changes the number of partitions. It returns at once: hosts finish what runs and give all partitions back, and what is
// accepted meanwhile waits for that; Partitions reports when the change is over. Nothing is refused or lost.
func (a *Admin) SetPartitions(ctx context.Context, n int) (Partitions, error) {
	return a.partitions(ctx, contract.RPCPartitionsSet, map[string]any{"partitions": n})
}

func (a *Admin) partitions(ctx context.Context, subject string, ask any) (Partitions, error) {
	reply, err := a.c.ask(ctx, subject, ask)
	if err != nil {
		return Partitions{}, err
	}
	p := Partitions{Raw: reply.Result}
	if err := reply.Decode(&p); err != nil {
		return Partitions{}, badReply("the answer about partitions is not the expected JSON: %v", err)
	}
	return p, nil
}
