package stream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Objects are large payloads, stored in the form of NATS's object store: chunks, and behind them one message that describes the object. Without
// that message there is no object.
const (
	digestKind = "SHA-256="
	mostChunk  = 128 << 10
)

// Errors of objects that a caller branches on.
var (
	ErrNoObject       = errors.New("no such object")
	ErrObjectTooLarge = errors.New("larger than an object may be")
	ErrObjectQuota    = errors.New("the tenant's objects have no room for it")
	ErrBadObject      = errors.New("the stored object does not match its digest")
)

// Object describes a stored payload.
type Object struct {
	Name   string
	Size   int
	Digest [sha256.Size]byte
	Type   string // content type
}

// objectMeta is the message that describes an object, as clients of NATS write it.
type objectMeta struct {
	Name    string              `json:"name"`
	Headers map[string][]string `json:"headers,omitempty"`
	Options struct {
		Chunk int `json:"max_chunk_size"`
	} `json:"options"`
	Bucket string    `json:"bucket"`
	NUID   string    `json:"nuid"`
	Size   int       `json:"size"`
	MTime  time.Time `json:"mtime"`
	Chunks int       `json:"chunks"`
	Digest string    `json:"digest"`
}

func metaSubject(name string) string {
	return metaPrefix + base64.URLEncoding.EncodeToString([]byte(name))
}

// Vault reads and writes objects.
type Vault struct {
	nc    *nats.Conn
	js    jetstream.JetStream
	w     *Writer
	reads *Reads
	chunk int
}

func newVault(js jetstream.JetStream, w *Writer, reads *Reads, maxPayload int) *Vault {
	return &Vault{nc: js.Conn(), js: js, w: w, reads: reads, chunk: min(mostChunk, maxPayload/4)}
}

// Bounded refuses an object that is larger than any may be.
func (v *Vault) Bounded(ctx context.Context, size int) error {
	s, err := v.js.Stream(ctx, ObjectsStream)
	if err != nil {
		return fmt.Errorf("stream %s: %w", ObjectsStream, err)
	}
	return bounded(s.CachedInfo(), size)
}

func bounded(info *jetstream.StreamInfo, size int) error {
	if most, _ := strconv.Atoi(info.Config.Metadata[objectMost]); size > most {
		return fmt.Errorf("%w: at most %d bytes, got %d", ErrObjectTooLarge, most, size)
	}
	return nil
}

// Admit refuses an object of that many bytes for which there is no room among those of its tenant.
func (v *Vault) Admit(ctx context.Context, tenant string, size int) error {
	s, err := v.js.Stream(ctx, ObjectsStream)
	if err != nil {
		return fmt.Errorf("stream %s: %w", ObjectsStream, err)
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(chunkPrefix+tenant+".>"))
	if err != nil {
		return fmt.Errorf("stream %s: %w", ObjectsStream, err)
	}
	if err := bounded(info, size); err != nil {
		return err
	}
	held := size
	for _, chunks := range info.State.Subjects {
		held += int(chunks) * v.chunk // an upper bound: the last chunk of each is smaller
	}
	if quota, _ := strconv.Atoi(info.Config.Metadata[tenantObjects]); held > quota {
		return fmt.Errorf("%w: at most %d bytes, with it %d", ErrObjectQuota, quota, held)
	}
	return nil
}

// Put stores an object whose name nobody has used, for ttl. When it returns without an error, all of it is stored.
func (v *Vault) Put(ctx context.Context, o Object, data []byte, ttl time.Duration) error {
	rev := uint64(0)
	for rest := data; len(rest) > 0; {
		n := min(len(rest), v.chunk)
		var err error
		if rev, err = v.append(ctx, o.Name, rest[:n], rev, ttl); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return v.finish(ctx, o, (len(data)+v.chunk-1)/v.chunk, ttl)
}

// append stores the chunk that follows the one of revision rev.
func (v *Vault) append(ctx context.Context, name string, data []byte, rev uint64, ttl time.Duration) (uint64, error) {
	return v.write(ctx, chunkPrefix+name, data, rev, ttl)
}

// finish makes an object of the chunks.
func (v *Vault) finish(ctx context.Context, o Object, chunks int, ttl time.Duration) error {
	m := objectMeta{Name: o.Name, Bucket: ObjectBucket, NUID: o.Name, Size: o.Size, Chunks: chunks, MTime: time.Now().UTC(),
		Headers: map[string][]string{"Content-Type": {o.Type}}, Digest: digestKind + base64.URLEncoding.EncodeToString(o.Digest[:])}
	m.Options.Chunk = v.chunk
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = v.write(ctx, metaSubject(o.Name), body, 0, ttl)
	return err
}

// write repeats what may not have been stored until ctx ends. The same bytes under the expected revision are one's own.
func (v *Vault) write(ctx context.Context, subject string, data []byte, rev uint64, ttl time.Duration) (uint64, error) {
	for {
		a, err := v.w.PublishSync(&nats.Msg{Subject: subject, Data: data, Header: nats.Header{
			"Nats-Expected-Last-Subject-Sequence": {strconv.FormatUint(rev, 10)}, "Nats-TTL": {strconv.Itoa(int(ttl/time.Second)) + "s"},
		}})
		if errors.Is(err, ErrWrongRevision) {
			if m, bad := v.reads.Last(ctx, v.nc, ObjectsStream, subject); bad == nil && bytes.Equal(m.Data, data) {
				return m.Sequence, nil
			}
			return 0, err
		}
		if err == nil || errors.Is(err, ErrStoreFull) || errors.Is(err, nats.ErrConnectionClosed) {
			return a.Sequence, err
		}
		select {
		case <-ctx.Done():
			return 0, err
		case <-time.After(objectPause):
		}
	}
}

// objectPause is the time between two tries of a write.
const objectPause = 250 * time.Millisecond

// Find reads what an object is.
func (v *Vault) Find(ctx context.Context, name string) (Object, error) {
	m, err := v.reads.Last(ctx, v.nc, ObjectsStream, metaSubject(name))
	if errors.Is(err, ErrNotFound) {
		return Object{}, ErrNoObject
	}
	if err != nil {
		return Object{}, fmt.Errorf("object: %w", err)
	}
	var meta objectMeta
	o, err := Object{Name: name}, json.Unmarshal(m.Data, &meta)
	digest, bad := base64.URLEncoding.DecodeString(strings.TrimPrefix(meta.Digest, digestKind))
	if err != nil || bad != nil || copy(o.Digest[:], digest) != sha256.Size || meta.Size < 0 {
		return Object{}, ErrBadObject
	}
	o.Size = meta.Size
	if kind := meta.Headers["Content-Type"]; len(kind) > 0 {
		o.Type = kind[0]
	}
	return o, nil
}

// Chunk reads the chunk at or after a sequence, and returns where the search for the next one begins. There is none: ErrNoObject.
func (v *Vault) Chunk(ctx context.Context, name string, from uint64) (data []byte, next uint64, err error) {
	m, err := v.reads.Next(ctx, v.nc, ObjectsStream, chunkPrefix+name, max(from, 1))
	if errors.Is(err, ErrNotFound) {
		return nil, 0, ErrNoObject
	}
	if err != nil {
		return nil, 0, fmt.Errorf("object: %w", err)
	}
	return m.Data, m.Sequence + 1, nil
}

// Get reads a whole object, which must be the one that o describes.
func (v *Vault) Get(ctx context.Context, o Object) ([]byte, error) {
	found, err := v.Find(ctx, o.Name)
	if err != nil {
		return nil, err
	}
	if found.Size != o.Size || found.Digest != o.Digest {
		return nil, ErrBadObject
	}
	data := make([]byte, 0, o.Size)
	_, err = v.read(ctx, o, func(chunk []byte) { data = append(data, chunk...) })
	return data, err
}

// read hands the pieces of what o describes to each and checks them.
func (v *Vault) read(ctx context.Context, o Object, each func([]byte)) (chunks int, err error) {
	size, from, sum := 0, uint64(1), sha256.New()
	for ; size < o.Size; chunks++ {
		chunk, next, err := v.Chunk(ctx, o.Name, from)
		if err != nil {
			return 0, err
		}
		size, from = size+len(chunk), next
		_, _ = sum.Write(chunk) // never fails
		each(chunk)
	}
	if size != o.Size || !bytes.Equal(sum.Sum(nil), o.Digest[:]) {
		return 0, ErrBadObject
	}
	return chunks, nil
}

// Upload stores one more piece of an object behind the one of revision rev, 0 for the first, and returns its own. The same piece again is fine.
func (v *Vault) Upload(ctx context.Context, name string, data []byte, rev uint64, ttl time.Duration) (uint64, error) {
	if len(data) > v.chunk {
		return 0, fmt.Errorf("%w: a piece has at most %d bytes, got %d", ErrObjectTooLarge, v.chunk, len(data))
	}
	return v.append(ctx, name, data, rev, ttl)
}

// Complete makes an object of the pieces that were uploaded, if they are what o describes. Twice is fine.
func (v *Vault) Complete(ctx context.Context, o Object, ttl time.Duration) error {
	if found, err := v.Find(ctx, o.Name); err == nil && found == o {
		return nil
	}
	chunks, err := v.read(ctx, o, func([]byte) {})
	if err != nil {
		return err
	}
	return v.finish(ctx, o, chunks, ttl)
}

// NewObjectErasers notes which objects there are whose names match filter: their descriptions, and last their chunks, by which they are found.
func NewObjectErasers(ctx context.Context, js jetstream.JetStream, filter string) (all []*Eraser, err error) {
	chunks, err := NewEraser(ctx, js, ObjectsStream, chunkPrefix+filter)
	if errors.Is(err, jetstream.ErrStreamNotFound) { // no dispatcher of this release has run yet
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := chunks.stream.Info(ctx, jetstream.WithSubjectFilter(chunkPrefix+filter))
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", ObjectsStream, err)
	}
	for subject := range info.State.Subjects {
		all = append(all, chunks.Beside(metaSubject(strings.TrimPrefix(subject, chunkPrefix))))
	}
	return append(all, chunks), nil
}

// Erase removes the objects whose names match filter.
func (v *Vault) Erase(ctx context.Context, filter string) error {
	erasers, err := NewObjectErasers(ctx, v.js, filter)
	if err != nil {
		return err
	}
	for _, e := range erasers {
		if err := e.Erase(ctx); err != nil {
			return err
		}
	}
	return nil
}
