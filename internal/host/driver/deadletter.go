package driver

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
)

// storeDeadLetter keeps a dead job with its request, its headers and its error history. The broker stores one of two with the
// same id within its window of duplicates; check reports that there may be an older one.
func (all *Drivers) storeDeadLetter(ctx context.Context, j *lifecycle.Job, d *jobs.DeadLetter, check bool) error {
	if check {
		if there, err := all.hasDeadLetter(ctx, d); there || err != nil {
			return err
		}
	}
	body, err := all.Payloads.Body(ctx, j)
	if err != nil {
		return fmt.Errorf("dead letter: %w", err)
	}
	switch req, bad := jobs.ParseRequest(d.Type, body, all.On.MaxPayload); {
	case bad == nil:
		d.Command = req.Command
	case bad.Code == jobs.CodeSecret:
		body = nil // a key is not kept beyond the job
	}
	if err := all.On.Store(d.Subject(), d.Header(all.On.MaxPayload), body); err != nil {
		return fmt.Errorf("dead letter: %w", err)
	}
	return nil
}

// hasDeadLetter looks at the last dead letter of the session, whose jobs die one after the other.
func (all *Drivers) hasDeadLetter(ctx context.Context, d *jobs.DeadLetter) (bool, error) {
	m, err := stream.GetLast(ctx, all.On.NC, stream.Dead, d.Subject())
	if errors.Is(err, stream.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("dead letter: %w", err)
	}
	return m.Header.Get(jobs.HeaderSequence) == strconv.FormatUint(d.Sequence, 10) && m.Header.Get(jobs.HeaderJob) == d.Job, nil
}
