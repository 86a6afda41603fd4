package jobs

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/wire"
)

// ObjectRef tells where a payload is that is too large for a message (contract/job.md, "Large results").
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
)

// ObjectTTL is how long an object of a job is kept, at the least as long as its outcome.
func ObjectTTL(mode Mode, job string) time.Duration {
	if _, of := batchOf(job); of {
		return batchObjects
	}
	return ResultTTL(mode) + objectMargin
}
