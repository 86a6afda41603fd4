package batch

import (
	"fmt"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// RecordVersion is the schema of Record, Chunk and Part. A reader that meets a newer one leaves it alone.
const RecordVersion = 1

// ErrNewer reports that something of a batch was written by a newer version.
var ErrNewer = jobs.ErrNewer

// fields reads positions and keeps the first error.
type fields struct {
	*wire.Reader
	err error
}

func open(b []byte, least int) (*fields, error) {
	if err := wire.Check(b, wire.Pass); err != nil {
		return nil, err
	}
	in := &fields{Reader: wire.NewReader(b)}
	n := in.array()
	if v := in.uint(); in.err == nil && v > RecordVersion {
		return nil, ErrNewer
	}
	if in.err == nil && n < least {
		in.err = fmt.Errorf("must have at least %d fields, got %d", least, n)
	}
	return in, in.err
}

func (in *fields) keep(err error) {
	if in.err == nil {
		in.err = err
	}
}

func (in *fields) array() int   { v, err := in.Array(); in.keep(err); return v }
func (in *fields) mapping() int { v, err := in.Map(); in.keep(err); return v }
func (in *fields) uint() uint64 { v, err := in.Uint(); in.keep(err); return v }
func (in *fields) str() string  { v, err := in.Str(); in.keep(err); return v }
func (in *fields) bin() []byte  { v, err := in.Bin(); in.keep(err); return v }

func (in *fields) skip(n int) {
	for ; n > 0 && in.err == nil; n-- {
		in.keep(in.Skip())
	}
}
