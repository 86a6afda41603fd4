package host

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
)

// bury keeps a dead job with its request, its headers and its error history. The broker stores one of two letters with the
// same id within its window of duplicates; check says that there may be an older one.
func (h *Host) bury(ctx context.Context, j *lifecycle.Job, d *jobs.DeadLetter, check bool) error {
	if check {
		if there, err := h.isBuried(ctx, d); there || err != nil {
			return err
		}
	}
	body, err := h.body(ctx, j)
	if err != nil {
		return fmt.Errorf("dead letter: %w", err)
	}
	switch req, bad := jobs.ParseRequest(d.Type, body, h.maxPayload); {
	case bad == nil:
		d.Command = req.Command
	case bad.Code == jobs.CodeSecret:
		body = nil // a key is not kept beyond the job
	}
	m := &nats.Msg{Subject: d.Subject(), Data: body, Header: d.Header(h.maxPayload)}
	if _, err := h.writer.PublishSync(m); err != nil {
		return fmt.Errorf("dead letter: %w", err)
	}
	return nil
}

// isBuried looks at the last letter of the session, whose jobs die one after the other.
func (h *Host) isBuried(ctx context.Context, d *jobs.DeadLetter) (bool, error) {
	m, err := stream.GetLast(ctx, h.nc, stream.Dead, d.Subject())
	if errors.Is(err, stream.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("dead letter: %w", err)
	}
	return m.Header.Get(jobs.HeaderSequence) == strconv.FormatUint(d.Sequence, 10) && m.Header.Get(jobs.HeaderJob) == d.Job, nil
}
