package outcomes

import (
	"context"
	"slices"

	"github.com/dspex/dspex/internal/dispatch/endpoint"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// waiting is a job without outcome, as far as in its message.
type waiting struct {
	jobs.Source
	job, command string
	mode         jobs.Mode
	at           stream.Stored // without its body
}

// queue reads a page of a queue. Where the jobs stand is read for the page as a whole.
func (l *listing) queue(ctx context.Context, of source, p stream.Page) (uint64, error) {
	p.Stream, p.Subject = of.stream, of.subject
	var page []waiting
	next, err := l.broker.Reads.Page(ctx, l.broker.NC, p, func(m stream.Stored) error {
		l.scanned++
		if w := l.readWaiting(m); w.Session.Tenant == l.of.Tenant && (l.command == "" || w.command == l.command) && l.fits(m.Time) {
			page = append(page, w)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	stands, err := l.stand(ctx, of.stream, page)
	if err != nil {
		return 0, err
	}
	for _, w := range page {
		s, waits := stands(w)
		if !waits || l.outcome != "" && s.outcome != l.outcome {
			continue
		}
		job := map[string]any{"job": w.job, "session": endpoint.OrNil(w.Session.ID), "outcome": s.outcome, "attempts": s.attempts, "command": endpoint.OrNil(w.command),
			"mode": string(w.mode), "accepted_at": endpoint.TimeText(w.at.Time)}
		if w.Lane != "" {
			job["lane"] = w.Lane
		}
		if err := l.add(job, w.at.Sequence); err != nil {
			return 0, err
		}
	}
	return next, nil
}

func (l *listing) readWaiting(m stream.Stored) waiting {
	from, env, _ := jobs.ParseStored(m.Subject, m.Header, m.Sequence, l.broker.Accounts())
	w := waiting{Source: from, job: env.Job, mode: env.Mode, at: m}
	if req, bad := jobs.ParseRequest(env.Type, m.Data, l.broker.MaxPayload/2); bad == nil {
		w.command = req.Command
	}
	w.at.Data, w.at.Header = nil, nil
	return w
}

// stand reads where the jobs of a page of a queue stand: their attempt records, and whether they have an outcome by now.
func (l *listing) stand(ctx context.Context, queue string, page []waiting) (func(waiting) (stand, bool), error) {
	records := map[string]*jobs.AttemptRecord{}
	ended := map[string]uint64{} // of a result's key: the job's sequence
	var attempts, results []string
	for _, w := range page {
		attempts, results = append(attempts, w.attemptKey()), append(results, w.Session.ResultKey(w.job))
	}
	bucket := l.broker.Records
	if queue == stream.Anonymous {
		bucket = l.broker.Results
	}
	err := bucket.Many(ctx, unique(attempts), func(key string, e stream.Entry) {
		if h, err := jobs.ParseAttemptRecord(e.Value); err == nil {
			records[key] = h
		}
	})
	if err != nil {
		return nil, err
	}
	err = l.broker.Results.Many(ctx, unique(results), func(key string, e stream.Entry) {
		if r, err := jobs.ParseResult(e.Value); err == nil {
			ended[key] = r.Sequence
		}
	})
	if err != nil {
		return nil, err
	}
	lanes, err := l.lanes(ctx, queue)
	return func(w waiting) (stand, bool) {
		if sequence, over := ended[w.Session.ResultKey(w.job)]; over && sequence == w.at.Sequence {
			return stand{}, false
		}
		h := records[w.attemptKey()]
		if h == nil || h.Sequence != w.at.Sequence {
			h = &jobs.AttemptRecord{}
		}
		if w.Session.ID == "" {
			return standAnonymous(w.at.Sequence, h, lanes[w.Lane]), true
		}
		return standInSession(w.at.Sequence, h), true
	}, err
}

func (w waiting) attemptKey() string {
	if w.Session.ID == "" {
		return w.Session.AttemptKey(w.job)
	}
	return w.Session.AttemptRecordKey()
}

// lanes reads how far the lanes of anonymous jobs are.
func (l *listing) lanes(ctx context.Context, queue string) (map[string]progress, error) {
	of := map[string]progress{}
	if queue != stream.Anonymous {
		return of, nil
	}
	for _, lane := range []string{jobs.LaneInteractive, jobs.LaneBatch} {
		p, none, err := l.broker.Progress(ctx, lane)
		if err != nil && !none {
			return nil, err
		}
		of[lane] = progress{p, none}
	}
	return of, nil
}

func unique(keys []string) []string {
	slices.Sort(keys)
	return slices.Compact(keys)
}
