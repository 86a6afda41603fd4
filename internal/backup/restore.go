package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats-server/v2/server/archive"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/stream"
)

// ReadManifest reads what a directory has.
func ReadManifest(dir string) (*Manifest, error) {
	text, err := os.ReadFile(filepath.Join(dir, manifest))
	if err != nil {
		return nil, fmt.Errorf("%s must be a complete backup: %w", dir, err)
	}
	m := &Manifest{}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("%s: %w", manifest, err)
	}
	if m.Schema != schema {
		return nil, fmt.Errorf("%s must be of schema %d, got %d", manifest, schema, m.Schema)
	}
	return m, nil
}

// Restore makes the broker objects of a backup on a broker that has none of them. No dispatcher and no host may run: they would make
// what is missing themselves.
func Restore(ctx context.Context, nc *nats.Conn, dir string, replicas int, progress Progress) (*Manifest, error) {
	m, err := ReadManifest(dir)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	for _, name := range stream.Objects() {
		if _, err := js.Stream(ctx, name); !errors.Is(err, jetstream.ErrStreamNotFound) {
			if err == nil {
				err = errors.New("the broker must have none of dspex's streams, got one")
			}
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	r := &restorer{nc: nc, js: js, dir: dir, replicas: replicas, progress: progress, fit: newFit(m), next: above(m)}
	for _, o := range m.Objects {
		if err := r.restore(ctx, o); err != nil {
			return nil, fmt.Errorf("%s: %w", o.Name, err)
		}
	}
	return m, nil
}

// above is a number above all that the deployment ever gave out, as dispatchers choose it (docs/adr/0024): the time in microseconds.
func above(m *Manifest) uint64 {
	n := uint64(time.Now().UnixMicro())
	for _, o := range m.Objects {
		n = max(n, o.Last+unseen)
	}
	return n
}

type restorer struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	dir      string
	replicas int
	progress Progress
	fit      *fit
	next     uint64
}

// restore makes one stream, and keeps its identity.
func (r *restorer) restore(ctx context.Context, o Object) error {
	cfg := o.Config
	if o.Messages == 0 || o.First+shift(o) > 1 { // it reports that this is a recreated store, in which sessions without a record may have had one
		cfg.FirstSeq = max(cfg.FirstSeq, 2)
	}
	if r.replicas > 0 {
		cfg.Replicas = r.replicas
	}
	identity := time.Now().UnixNano()
	stream.Identify(&cfg, identity)
	to, err := r.begin(ctx, cfg, o)
	if err != nil {
		return err
	}
	in, out := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		err := r.send(ctx, to, in)
		_ = in.CloseWithError(err) // the writer gets an error
		sent <- err
	}()
	err = r.pack(o, out)
	_ = out.CloseWithError(err)
	if err := errors.Join(err, <-sent); err != nil {
		return err
	}
	r.fit.made(o.Name, identity)
	return nil
}

// begin queries the broker where the copy is to be sent.
func (r *restorer) begin(ctx context.Context, cfg jetstream.StreamConfig, o Object) (string, error) {
	body, err := json.Marshal(map[string]any{"config": cfg, "state": r.state(o)})
	if err != nil {
		return "", err
	}
	m, err := r.request(ctx, "$JS.API.STREAM.RESTORE."+o.Name, body)
	if err != nil {
		return "", err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Deliver string              `json:"deliver_subject"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return "", err
	}
	if answer.Error != nil {
		return "", answer.Error
	}
	return answer.Deliver, nil
}

// shift makes room for a first sequence above 1, which a stream cannot have that keeps a message 1. Nobody keeps the revisions of a
// bucket; sequences of jobs are kept.
func shift(o Object) uint64 {
	if o.First == 1 && strings.HasPrefix(o.Name, "KV_") {
		return 1
	}
	return 0
}

// unseen is more than a deployment accepts between a copy and its loss.
const unseen = 1 << 24

// last is the number above which the stream goes on. Where jobs wait it must not be far above them: a consumer of nats-server (2.15.2)
// counts its way from one that was acknowledged to the next that was not, and the stream stands still meanwhile.
func (r *restorer) last(o Object) uint64 {
	if o.Messages > 0 && (o.Name == stream.Jobs || o.Name == stream.Anonymous) {
		return o.Last + unseen
	}
	return r.next
}

func (r *restorer) state(o Object) map[string]any {
	first, last := o.First+shift(o), r.last(o)
	if o.Messages == 0 {
		first = last + 1
	}
	return map[string]any{"messages": o.Messages, "bytes": 0, "first_seq": first, "first_ts": time.Time{}, "last_seq": last, "last_ts": time.Time{}, "consumer_count": 0}
}

// pack writes the archive that the broker is to read: its state first, then the messages that fit, then the mark of the end.
func (r *restorer) pack(o Object, out io.Writer) error {
	f, err := os.Open(filepath.Join(r.dir, o.Name+suffix))
	if err != nil {
		return err
	}
	defer f.Close()
	packed := s2.NewWriter(out)
	to := archive.NewWriter(packed)
	state, err := json.Marshal(r.state(o))
	if err == nil {
		err = to.WriteHeader(&archive.Header{Name: "state.json", Timestamp: time.Now().UnixNano(), PayloadSize: int64(len(state))})
	}
	if err == nil {
		_, err = to.Write(state)
	}
	if err != nil {
		return err
	}
	if err := r.messages(o, archive.NewReader(s2.NewReader(f)), to); err != nil {
		return err
	}
	if err := to.WriteHeader(&archive.Header{}); err != nil {
		return err
	}
	return errors.Join(to.Close(), packed.Close())
}

func (r *restorer) messages(o Object, from *archive.Reader, to *archive.Writer) error {
	n := uint64(0)
	for ; n < o.Messages; n++ {
		h, err := from.Next()
		if err != nil {
			return fmt.Errorf("message %d of %d: %w", n+1, o.Messages, err)
		}
		body := make([]byte, h.HeaderSize+h.PayloadSize)
		if _, err := io.ReadFull(from, body); err != nil {
			return fmt.Errorf("message %d of %d: %w", n+1, o.Messages, err)
		}
		header, data := body[:h.HeaderSize], body[h.HeaderSize:]
		data, keep, err := r.fit.fit(o.Name, h, data)
		if err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		if !keep {
			continue
		}
		h.PayloadSize, h.Sequence = int64(len(data)), h.Sequence+shift(o)
		if err := to.WriteHeader(h); err != nil {
			return err
		}
		for _, part := range [][]byte{header, data} {
			if len(part) == 0 {
				continue
			}
			if _, err := to.Write(part); err != nil {
				return err
			}
		}
		if n%pageMessages == 0 {
			r.progress(o.Name, n, o.Messages)
		}
	}
	r.progress(o.Name, n, n)
	if _, err := from.Next(); n > 0 && !errors.Is(err, io.EOF) {
		return fmt.Errorf("the file must have the %d messages of %s, got more", n, manifest)
	}
	return nil
}

const (
	chunk        = 128 << 10
	chunkTimeout = 30 * time.Second
	endTimeout   = 10 * time.Minute // the broker makes the stream
)

// send hands the archive to the broker, each part when it has taken the one before.
func (r *restorer) send(ctx context.Context, to string, from io.Reader) error {
	part := make([]byte, min(chunk, int(r.nc.MaxPayload())))
	for {
		n, err := io.ReadFull(from, part)
		if n > 0 {
			if err := r.part(ctx, to, part[:n], chunkTimeout); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return r.part(ctx, to, nil, endTimeout)
		case err != nil:
			return err
		}
	}
}

func (r *restorer) part(ctx context.Context, to string, data []byte, most time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	m, err := r.request(ctx, to, data)
	if err != nil {
		return err
	}
	var answer struct {
		Error *jetstream.APIError `json:"error"`
	}
	if len(m.Data) > 0 && json.Unmarshal(m.Data, &answer) == nil && answer.Error != nil {
		return answer.Error
	}
	return nil
}

const (
	requestWait  = 10 * time.Second
	requestPause = 50 * time.Millisecond
)

// request repeats what nobody has received. In a cluster the answer with the subject of a copy may arrive before the interest in that
// subject does (they take different routes between the servers). An election leaves a moment without a leader.
func (r *restorer) request(ctx context.Context, subject string, data []byte) (m *nats.Msg, err error) {
	for end := time.Now().Add(requestWait); ; {
		m, err = r.nc.RequestWithContext(ctx, subject, data)
		if !errors.Is(err, nats.ErrNoResponders) || time.Now().After(end) {
			return m, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(requestPause):
		}
	}
}
