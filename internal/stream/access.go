// Package stream is the one place that uses NATS. It makes the broker objects (Ensure), writes with acknowledgements by callback
// (Writer), reads and writes the KV records with compare-and-set (Bucket) and takes over the consumer of a partition (Claims).
//
// It has keys and bytes, and no notion of a job.
package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/link"
)

// Access is what a host or a dispatcher has of the broker.
type Access struct {
	NC         *nats.Conn
	JS         jetstream.JetStream
	Log        *slog.Logger
	Writer     *Writer
	Records    *Bucket
	Results    *Bucket
	Control    *Bucket
	Assign     *Bucket
	Batches    *Bucket // of dispatchers
	Vault      *Vault  // large payloads
	Reads      *Reads
	Claims     *Claims
	Clock      *Clock
	MaxPayload int

	accounts atomic.Bool // tenants have accounts of their own
}

// NewAccess is over a connection, and has no more than that as yet.
func NewAccess(nc *nats.Conn, log *slog.Logger) (a *Access, err error) {
	a = &Access{NC: nc, Log: log}
	a.JS, err = jetstream.New(nc)
	return a, err
}

// Begin makes it possible to write to what Ensure has made. Close ends it.
func (a *Access) Begin() (err error) {
	if a.Writer, err = NewWriter(a.NC); err != nil {
		return err
	}
	a.MaxPayload = int(a.NC.MaxPayload())
	bucket := func(name string) *Bucket { return NewBucket(a.NC, a.Writer, name) }
	a.Reads = NewReads()
	a.Records, a.Results, a.Control, a.Assign, a.Batches = bucket(Sessions).Within(a.Reads), bucket(Results).Within(a.Reads), bucket(Control), bucket(Assign), bucket(Batches)
	a.Claims = NewClaims(a.JS, a.Assign)
	a.Vault = newVault(a.JS, a.Writer, a.Reads, a.MaxPayload)
	return nil
}

// Open waits for what Ensure makes, and reads the broker's clock. Close ends it.
func Open(ctx context.Context, nc *nats.Conn, machine clock.Machine, log *slog.Logger) (a *Access, err error) {
	if a, err = NewAccess(nc, log); err != nil {
		return nil, err
	}
	if err := Await(ctx, a.JS, log); err != nil {
		return nil, err
	}
	err = link.Retry(ctx, log, link.Passes, func(ctx context.Context) (err error) {
		if err := a.readAccounts(ctx); err != nil {
			return err
		}
		a.Clock, err = NewClock(ctx, a.JS, clock.New(machine), log)
		return err
	})
	if err != nil {
		return nil, err
	}
	return a, a.Begin()
}

// Close fails the writes that wait for their acknowledgements.
func (a *Access) Close() { a.Writer.Close() }

// Accounts reports whether tenants have accounts of their own.
func (a *Access) Accounts() bool { return a.accounts.Load() }

// SetAccounts sets whether there are accounts, where it is known.
func (a *Access) SetAccounts(have bool) { a.accounts.Store(have) }

// accountsPause is the time between looks whether tenants have got accounts of their own: that happens once in a deployment's lifetime.
const accountsPause = 10 * time.Second

func (a *Access) readAccounts(ctx context.Context) error {
	have, err := AccountsOf(ctx, a.JS)
	if err == nil {
		a.accounts.Store(have)
	}
	return err
}

// FollowAccounts detects a dispatcher that was started with --accounts later than this process.
func (a *Access) FollowAccounts(ctx context.Context) {
	tick := time.NewTicker(accountsPause)
	defer tick.Stop()
	for !a.accounts.Load() { // there is no way back
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		bounded, cancel := context.WithTimeout(ctx, AckTimeout)
		if err := a.readAccounts(bounded); err != nil && ctx.Err() == nil {
			a.Log.Debug("accounts_not_seen", "error", err)
		}
		cancel()
	}
}

// Follow calls each for every key of bucket that matches filter (see FollowEntries).
func (a *Access) Follow(ctx context.Context, bucket, filter string, each func(key string, e Entry)) {
	FollowEntries(ctx, a.JS, bucket, filter, a.Log, each)
}

// Serve calls answer for each request on subject, on one goroutine, until stop is called. reply may be called later, too; a reply to
// who is gone is lost.
func (a *Access) Serve(subject string, answer func(data []byte, reply func([]byte))) (stop func(), err error) {
	sub, err := a.NC.Subscribe(subject, func(m *nats.Msg) {
		answer(m.Data, func(body []byte) { _ = m.Respond(body) })
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe %s: %w", subject, err)
	}
	return func() { _ = sub.Unsubscribe() }, nil
}

// ErrNoResponders reports that nobody serves a subject.
var ErrNoResponders = nats.ErrNoResponders

// Request sends a request to a subject and returns the answer of one of those who serve it.
func (a *Access) Request(ctx context.Context, subject string, body []byte) ([]byte, error) {
	m, err := a.NC.RequestWithContext(ctx, subject, body)
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}

// Connected reports whether there is a connection.
func (a *Access) Connected() bool { return a.NC.IsConnected() }

// Receive calls each for what is published under the subject, on one goroutine, until stop is called.
func (a *Access) Receive(subject string, each func(subject string, data []byte)) (stop func(), err error) {
	sub, err := a.NC.Subscribe(subject, func(m *nats.Msg) { each(m.Subject, m.Data) })
	if err != nil {
		return nil, fmt.Errorf("subscribe %s: %w", subject, err)
	}
	return func() { _ = sub.Unsubscribe() }, nil
}

// Send publishes a message with headers, at most once.
func (a *Access) Send(subject string, header map[string][]string, data []byte) error {
	return a.NC.PublishMsg(&nats.Msg{Subject: subject, Header: header, Data: data})
}

// Store publishes a message and waits until the broker has stored it.
func (a *Access) Store(subject string, header map[string][]string, data []byte) error {
	_, err := a.Writer.PublishSync(&nats.Msg{Subject: subject, Header: header, Data: data})
	return err
}

// RecordsRenewed is when the bucket of records was made in place of a lost one, by the broker's clock; zero: it is the first.
func (a *Access) RecordsRenewed(ctx context.Context) (time.Time, error) {
	s, err := a.JS.Stream(ctx, RecordsStream)
	if err != nil {
		return time.Time{}, fmt.Errorf("stream %s: %w", RecordsStream, err)
	}
	if info := s.CachedInfo(); info.Config.FirstSeq > 1 {
		return info.Created, nil
	}
	return time.Time{}, nil
}

// NewID names a process: no two have the same.
func NewID() string { return nuid.Next() }

// Forbidden reports that the last error of the connection was that it may not publish to subject.
func Forbidden(nc *nats.Conn, subject string) bool {
	err := nc.LastError()
	return errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), subject)
}

// RecordSteps writes down the steps of the broker's clock that are known here and not there.
func (a *Access) RecordSteps(ctx context.Context) error {
	e, err := a.Control.Get(ctx, ClockKey)
	if err != nil {
		return err
	}
	known, _ := ParseSteps(e.Value) // what cannot be read is written over
	all, more := clock.Merge(known, a.Clock.Steps())
	if !more {
		return nil
	}
	value, err := formatSteps(all)
	if err != nil {
		return err
	}
	_, err = a.Control.PutSync(ClockKey, value, e.Revision, 0)
	return err
}
