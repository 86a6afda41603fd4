package jobs

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/dspex/dspex/internal/wire"
)

// RecordVersion is the schema of Record, AttemptRecord and Result. A reader that meets a newer one leaves it alone.
const RecordVersion = 1

// ErrNewer reports that a record was written by a newer version.
var ErrNewer = errors.New("written by a newer version of dspex")

// fields reads a record's positions and keeps the first error.
type fields struct {
	*wire.Reader
	err error
}

// open checks a stored form and its version and returns the reader behind the version field.
func open(b []byte, least int) (*fields, int, error) {
	if err := wire.Check(b, wire.Pass); err != nil {
		return nil, 0, err
	}
	in := &fields{Reader: wire.NewReader(b)}
	n := in.array()
	if v := in.uint(); in.err == nil && v > RecordVersion {
		return nil, 0, fmt.Errorf("%w (version must be at most %d, got %d)", ErrNewer, RecordVersion, v)
	}
	if in.err == nil && n < least {
		in.err = fmt.Errorf("must have at least %d fields, got %d", least, n)
	}
	return in, n, in.err
}

func (in *fields) close(extra int) error {
	for range extra {
		in.keep(in.Skip())
	}
	return in.err
}

func (in *fields) keep(err error) {
	if in.err == nil {
		in.err = err
	}
}

func (in *fields) array() int    { v, err := in.Array(); in.keep(err); return v }
func (in *fields) int() int64    { v, err := in.Int(); in.keep(err); return v }
func (in *fields) uint() uint64  { v, err := in.Uint(); in.keep(err); return v }
func (in *fields) str() string   { v, err := in.Str(); in.keep(err); return v }
func (in *fields) boolean() bool { v, err := in.Bool(); in.keep(err); return v }

func (in *fields) bin() []byte {
	if in.Nil() {
		return nil
	}
	v, err := in.Bin()
	in.keep(err)
	return v
}

func (in *fields) hash() (h [sha256.Size]byte) {
	b := in.bin()
	if in.err == nil && len(b) != len(h) {
		in.err = fmt.Errorf("hash of %d bytes: expected %d", len(b), len(h))
	}
	copy(h[:], b)
	return h
}

// body is a reply: what is there goes to clients as it is.
func (in *fields) body() []byte {
	b := in.bin()
	if in.err == nil {
		in.keep(wire.Check(b, wire.Pass))
	}
	return b
}

func appendBin(dst, b []byte) []byte {
	if b == nil {
		return wire.AppendNil(dst)
	}
	return wire.AppendBin(dst, b)
}
