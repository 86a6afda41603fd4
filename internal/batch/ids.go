package batch

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/dspex/dspex/internal/contract"
)

// MaxID bounds a batch's id.
const MaxID = 48

// ExpectedID reports what a batch may be called.
const ExpectedID = "1 to 48 of A-Z a-z 0-9 _ -"

// ValidID reports whether a batch may be called so.
func ValidID(id string) bool { return contract.ValidToken(id, MaxID) }

// NewKey names one use of a batch's id. It cannot be guessed, so neither can the ids of its jobs, and what an earlier use left behind is
// never met.
func NewKey() string {
	random := make([]byte, 12)
	_, _ = rand.Read(random) // never fails
	return hex.EncodeToString(random)
}

// JobID is the id of a job of the batch: always the same one, so that publishing it again runs nothing again.
func JobID(key string, index int) string { return "b" + key + "-" + strconv.Itoa(index) }

// Keys of the bucket dspex_batches. Every one names its tenant.

// RecordKey is the key of a batch's record.
func RecordKey(tenant, batch string) string { return "b." + tenant + "." + batch }

// RecordKeys matches the records of all tenants.
const RecordKeys = "b.>"

// ChunkKey is the key of the jobs from first on.
func ChunkKey(tenant, key string, first int) string {
	return strings.Join([]string{"i", tenant, key, strconv.Itoa(first)}, ".")
}

// PartKey is the key of one part of the outcomes of the chunk that begins at first.
func PartKey(tenant, key string, first, part int) string {
	return strings.Join([]string{"o", tenant, key, strconv.Itoa(first), strconv.Itoa(part)}, ".")
}

// PartKeys matches all parts of a chunk.
func PartKeys(tenant, key string, first int) string {
	return strings.Join([]string{"o", tenant, key, strconv.Itoa(first), "*"}, ".")
}

// OwnKeys match all that belongs to one life of a batch, but for its record.
func OwnKeys(tenant, key string) []string {
	return []string{"i." + tenant + "." + key + ".>", "o." + tenant + "." + key + ".>"}
}

// Ours reports whether a component of this release may have written the value under the key in dspex_batches.
func Ours(key string, value []byte) bool {
	token := strings.Split(key, ".")
	switch kind := token[0]; {
	case kind == "b" && len(token) == 3:
		r, err := ParseRecord(value)
		return len(value) == 0 || err == nil && r.Tenant == token[1] && r.Batch == token[2] // empty: it is gone
	case kind == "i" && len(token) == 4:
		c, err := ParseChunk(value)
		return err == nil && strconv.Itoa(c.First) == token[3]
	case kind == "o" && len(token) == 5:
		_, err := ParsePart(value)
		return err == nil
	}
	return false
}
