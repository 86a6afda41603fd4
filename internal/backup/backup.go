// Package backup copies the broker objects of a running deployment into files, and makes a deployment of them on an empty broker.
//
// Each object is read to its end while others write: what was superseded meanwhile is superseded in the copy as well. Jobs come first,
// records next, outcomes last, so that a job that is missing in the copy of a later object is still in that of an earlier one. The one
// thing that does not fit is an outcome that is newer than its session's record; a restore leaves it out, and its job runs again.
//
// What is restored keeps its sequences, and the next one is above all that the deployment ever gave out. Records name the stream
// they count in by its identity, and get that of the new one.
package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats-server/v2/server/archive"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/stream"
)

// order is that of the copies.
var order = []string{stream.Jobs, stream.Anonymous, stream.RecordsStream, stream.ResultsStream, stream.Dead, stream.BatchesStream, stream.ObjectsStream, stream.ControlStream, stream.Audit, stream.Events}

// What a backup has is in manifest, which is written last: a directory without it is no backup.
const (
	manifest = "backup.json"
	schema   = 1
	suffix   = ".arc.s2"
)

// Manifest is what is in a directory.
type Manifest struct {
	Schema  int       `json:"schema"`
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended"`
	Objects []Object  `json:"objects"`
}

// Object is the copy of a stream.
type Object struct {
	Name     string                 `json:"name"`
	Began    time.Time              `json:"began"`   // of the copy, by the clock of the broker's messages
	Created  time.Time              `json:"created"` // of the stream
	Messages uint64                 `json:"messages"`
	Bytes    uint64                 `json:"bytes"`
	First    uint64                 `json:"first_seq"`
	Last     uint64                 `json:"last_seq"` // that the stream had given out
	Config   jetstream.StreamConfig `json:"config"`
}

// identity is that of the stream.
func (o *Object) identity() int64 { return stream.Identity(o.Config, o.Created) }

// Progress receives how far a copy is.
type Progress func(name string, messages, of uint64)

// Write copies a deployment into a directory that is empty or not there.
func Write(ctx context.Context, nc *nats.Conn, dir string, progress Progress) (*Manifest, error) {
	if err := fresh(dir); err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	m := &Manifest{Schema: schema, Began: time.Now().UTC()}
	for _, name := range order {
		o, err := write(ctx, nc, js, name, filepath.Join(dir, name+suffix), progress)
		if errors.Is(err, jetstream.ErrStreamNotFound) && (name == stream.Audit || name == stream.BatchesStream || name == stream.ObjectsStream) { // of a deployment that has none yet
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		m.Objects = append(m.Objects, *o)
	}
	m.Ended = time.Now().UTC()
	text, err := json.MarshalIndent(m, "", "  ")
	if err == nil {
		err = durable(filepath.Join(dir, manifest), func(f *os.File) error { _, err := f.Write(text); return err })
	}
	return m, err
}

func fresh(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s must be empty, got %s in it", dir, entries[0].Name())
	}
	return err
}

// durable writes a file that is whole once it has its name.
func durable(path string, write func(*os.File) error) error {
	f, err := os.OpenFile(path+".part", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(write(f), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".part", path)
	}
	return err
}

const (
	pageMessages = 1000
	pageBytes    = 4 << 20
)

func write(ctx context.Context, nc *nats.Conn, js jetstream.JetStream, name, path string, progress Progress) (*Object, error) {
	s, err := js.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	o := &Object{Name: name, Created: s.CachedInfo().Created, Config: s.CachedInfo().Config, Began: s.CachedInfo().TimeStamp}
	if o.Began.IsZero() {
		o.Began = time.Now()
	}
	expected := s.CachedInfo().State.Msgs
	err = durable(path, func(f *os.File) error {
		packed := s2.NewWriter(f)
		to := archive.NewWriter(packed)
		err := copyAll(ctx, nc, name, func(m stream.Stored) error {
			if o.First == 0 {
				o.First = m.Sequence
			}
			o.Messages++
			o.Bytes += uint64(len(m.Data))
			if o.Messages%pageMessages == 0 {
				progress(name, o.Messages, max(expected, o.Messages))
			}
			return put(to, m)
		})
		return errors.Join(err, to.Close(), packed.Close())
	})
	if err != nil {
		return nil, err
	}
	progress(name, o.Messages, o.Messages)
	after, err := s.Info(ctx)
	if err != nil {
		return nil, err
	}
	if stream.Identity(after.Config, after.Created) != o.identity() {
		return nil, errors.New("it was lost and recreated during the copy: start the backup again")
	}
	o.Last = after.State.LastSeq
	return o, nil
}

// copyAll hands on all messages in order, up to the moment in which there are no more. A page may come from a server that is a little
// behind the leader, so the leader is queried for whether the end is one.
func copyAll(ctx context.Context, nc *nats.Conn, name string, each func(stream.Stored) error) error {
	next := uint64(1)
	take := func(m stream.Stored) error {
		next = m.Sequence + 1
		return each(m)
	}
	for {
		end, err := stream.GetPage(ctx, nc, stream.Page{Stream: name, Subject: ">", From: next, Messages: pageMessages, Bytes: pageBytes}, take)
		if err != nil {
			return err
		}
		if end != 0 {
			continue
		}
		m, err := stream.GetNext(ctx, nc, name, ">", next)
		switch {
		case errors.Is(err, stream.ErrNotFound):
			return nil
		case err != nil:
			return err
		}
		if err := take(m); err != nil {
			return err
		}
	}
}

// added are the headers that a direct get puts beside a message's own.
var added = []string{"Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp", "Nats-Num-Pending", "Nats-Last-Sequence", "Nats-UpTo-Sequence"}

// put writes a message as nats-server's own archives have it.
func put(to *archive.Writer, m stream.Stored) error {
	var header []byte
	own := nats.Header{}
	maps.Copy(own, m.Header)
	for _, key := range added {
		delete(own, key)
	}
	if len(own) > 0 {
		header = encodeHeader(own)
	}
	err := to.WriteHeader(&archive.Header{Name: m.Subject, Timestamp: m.Time.UnixNano(), Sequence: m.Sequence, HeaderSize: int64(len(header)), PayloadSize: int64(len(m.Data))})
	for _, part := range [][]byte{header, m.Data} {
		if err == nil && len(part) > 0 {
			_, err = to.Write(part)
		}
	}
	return err
}
