package jobs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/wire"
)

// ObjectRef names the place of a payload that is too large for a message (contract/job.md, "Large results").
type ObjectRef struct {
	ID     string // made by dspex
	Size   int
	Digest [sha256.Size]byte
	Type   string // content type
}

// NewObjectRef refers to data under an id that nobody else has.
func NewObjectRef(id string, data []byte, contentType string) *ObjectRef {
	return &ObjectRef{ID: id, Size: len(data), Digest: sha256.Sum256(data), Type: contentType}
}

// Append writes the reference as it stands in replies.
func (r *ObjectRef) Append(dst []byte) []byte {
	dst = wire.AppendMap(dst, 4)
	dst = wire.AppendStr(wire.AppendStr(dst, "digest"), hex.EncodeToString(r.Digest[:]))
	dst = wire.AppendStr(wire.AppendStr(dst, "object"), r.ID)
	dst = wire.AppendInt(wire.AppendStr(dst, "size"), int64(r.Size))
	return wire.AppendStr(wire.AppendStr(dst, "type"), r.Type)
}

const (
	objectID    = 26      // characters of A-Z 2-7
	objectBytes = 1 << 40 // what no size is above: the store's own bounds are lower
)

// ValidObject reports whether id is one that dspex may have made.
func ValidObject(id string) bool {
	return len(id) == objectID && strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// ParseDigest reads a digest as it stands in references.
func ParseDigest(text string) (d [sha256.Size]byte, ok bool) {
	b, err := hex.DecodeString(text)
	return d, err == nil && copy(d[:], b) == len(d) && len(b) == len(d) && strings.ToLower(text) == text
}

const refShape = `{"object", "size", "digest", "type"}, as the upload was answered`

// readObjectRef reads the reference under a key of a request. It has all four entries.
func readObjectRef(in *wire.Reader, key string) (*ObjectRef, *Error) {
	wrong := func(path string) *Error {
		return Refused(CodeBadRequest, key+path, refShape, "%s is not a reference", key)
	}
	n, err := in.Map()
	if err != nil || n != 4 {
		return nil, wrong("")
	}
	r := &ObjectRef{}
	for range n {
		name, _ := in.Str()
		ok := false
		switch name {
		case "object":
			r.ID, err = in.Str()
			ok = ValidObject(r.ID)
		case "digest":
			var text string
			text, err = in.Str()
			r.Digest, ok = ParseDigest(text)
		case "size":
			var size int64
			size, err = in.Int()
			r.Size, ok = int(size), size > 0 && size <= objectBytes
		case "type":
			r.Type, err = in.Str()
			ok = r.Type == contract.JSON || r.Type == contract.MsgPack
		}
		if err != nil || !ok {
			return nil, wrong("." + Clip(name))
		}
	}
	return r, nil
}

// hash is that of a canonical body. Of a reference its digest counts, not its id: the same arguments uploaded again are the same job.
func (r *ObjectRef) hash(body []byte) [sha256.Size]byte {
	if r != nil {
		body = bytes.Replace(body, []byte(r.ID), nil, 1)
	}
	return sha256.Sum256(body)
}

// JoinArgs adds the arguments that the object holds to those of the request.
func (r *ObjectRef) JoinArgs(args, object []byte) ([]byte, *Error) {
	var more []byte
	var err error
	if r.Type == contract.JSON {
		more, err = wire.FromJSON(object, wire.Request)
	} else {
		more, err = wire.Canonical(object, wire.Request)
	}
	if err != nil {
		return nil, badObject("the arguments by reference cannot be read: %v", err)
	}
	in, all := wire.NewReader(more), wire.NewReader(args)
	extra, err := in.Map()
	if err != nil {
		return nil, badObject("the arguments by reference are not a map")
	}
	for range extra {
		key, _ := in.Str()
		if slices.Contains(contract.InlineArgs, key) {
			return nil, badObject("%s must be in args", key)
		}
		if err := in.Skip(); err != nil {
			return nil, badObject("the arguments by reference cannot be read: %v", err)
		}
	}
	n, _ := all.Map()
	joined := append(wire.AppendMap(nil, n+extra), entries(args)...)
	joined, err = wire.Canonical(append(joined, entries(more)...), wire.Request) // in order, and no key twice
	if err != nil {
		return nil, badObject("args and the arguments by reference do not go together: %v", err)
	}
	return joined, nil
}

// entries are those of a map, without its head.
func entries(m []byte) []byte {
	n, _ := wire.NewReader(m).Map()
	return m[len(wire.AppendMap(nil, n)):]
}

func badObject(format string, args ...any) *Error {
	e := Errorf(Python, CodeBadInput, format, args...)
	e.Path, e.Expected = "args_object", "an object that is a map of further arguments; "+strings.Join(contract.InlineArgs, ", ")+" only in args"
	return e
}

// Names of objects begin with the tenant, and with what they go: a batch, a session, or nothing but their time.

// ObjectName is the name of an object of a job.
func (r SessionRef) ObjectName(job, id string) string {
	if key, of := batchOf(job); of {
		return r.Tenant + ".b." + key + "." + id
	}
	if r.ID == "" {
		return r.Tenant + ".a." + id
	}
	return r.Tenant + ".s." + r.ID + "." + id
}

// ObjectNames matches those that go with the session.
func (r SessionRef) ObjectNames() string { return r.Tenant + ".s." + r.ID + ".*" }

// BatchObjectNames matches those that go with one life of a batch.
func BatchObjectNames(tenant, key string) string { return tenant + ".b." + key + ".*" }

const batchKey = 24 // hexadecimal digits (package batch makes them)

// batchOf is the key of the batch that a job is of.
func batchOf(job string) (key string, of bool) {
	key, _, of = strings.Cut(strings.TrimPrefix(job, "b"), "-")
	return key, of && len(key) == batchKey && job[0] == 'b' && strings.Trim(key, "0123456789abcdef") == ""
}

const (
	batchObjects = 100 * 24 * time.Hour // longer than any batch lives: they go with it
	objectMargin = time.Hour            // for the outcome that is written after the object

	// UploadTTL is how long uploaded arguments are kept: a job that starts later has none.
	UploadTTL = 7 * 24 * time.Hour
)

// OfBatch reports whether a job is one of a batch.
func OfBatch(job string) bool {
	_, of := batchOf(job)
	return of
}

// ObjectTTL is how long an object of a job is kept, at the least as long as its outcome.
func ObjectTTL(mode Mode, job string) time.Duration {
	if _, of := batchOf(job); of {
		return batchObjects
	}
	return ResultTTL(mode) + objectMargin
}
