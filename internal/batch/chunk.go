package batch

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// Bounds of a chunk, which is what one upload brings and what is opened at a time.
const (
	MaxChunk = 128       // jobs
	MaxJobs  = 1_000_000 // of a batch
)

// Line is one job of a batch.
type Line struct {
	ID      string // the submitter's name for it, "" for none
	Session string // "": without a session
	Body    []byte // the request, canonical MessagePack
	Bad     []byte // the reply that reports why it cannot be run; then there is no Body
}

// Chunk is a run of jobs as it is stored.
type Chunk struct {
	First int
	Lines []Line
}

// Append writes the stored form. Equal jobs have equal forms.
func (c *Chunk) Append(dst []byte) []byte {
	dst = wire.AppendArray(dst, 3)
	dst = wire.AppendUint(dst, RecordVersion)
	dst = wire.AppendUint(dst, uint64(c.First))
	dst = wire.AppendArray(dst, len(c.Lines))
	for _, l := range c.Lines {
		dst = l.append(dst)
	}
	return dst
}

func (l *Line) append(dst []byte) []byte {
	dst = wire.AppendArray(dst, 4)
	dst = wire.AppendStr(dst, l.ID)
	dst = wire.AppendStr(dst, l.Session)
	dst = wire.AppendBin(dst, l.Body)
	return wire.AppendBin(dst, l.Bad)
}

// ParseChunk reads the stored form; ErrNewer when a newer version wrote it.
func ParseChunk(b []byte) (*Chunk, error) {
	in, err := open(b, 3)
	if err != nil {
		return nil, fmt.Errorf("jobs of a batch: %w", err)
	}
	c := &Chunk{First: int(in.uint())}
	for n := in.array(); n > 0 && in.err == nil; n-- {
		fields := in.array()
		l := Line{ID: in.str(), Session: in.str(), Body: in.bin(), Bad: in.bin()}
		in.skip(fields - 4)
		c.Lines = append(c.Lines, l)
	}
	if in.err == nil && len(c.Lines) == 0 {
		in.err = errors.New("there are none")
	}
	if in.err != nil {
		return nil, fmt.Errorf("jobs of a batch: %w", in.err)
	}
	return c, nil
}

// Same reports whether both have the same jobs. Arguments by reference are the same if their digests are, as for single jobs.
func (c *Chunk) Same(o *Chunk) bool {
	return c.First == o.First && slices.EqualFunc(c.Lines, o.Lines, func(a, b Line) bool {
		return a.ID == b.ID && a.Session == b.Session && bytes.Equal(a.Bad, b.Bad) && sameRequest(a.Body, b.Body)
	})
}

func sameRequest(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	one, badOne := jobs.ParseRequest(jobs.MsgPack, a, 0)
	two, badTwo := jobs.ParseRequest(jobs.MsgPack, b, 0)
	return badOne == nil && badTwo == nil && one.Hash == two.Hash
}

// Digest adds up jobs in their order. How they were cut into chunks does not matter.
type Digest [sha256.Size]byte

// Add is the digest with the chunk's jobs behind it.
func (d Digest) Add(c *Chunk) Digest {
	for i := range c.Lines {
		line := sha256.Sum256(c.Lines[i].append(nil))
		d = sha256.Sum256(append(d[:], line[:]...))
	}
	return d
}

// String is what the record keeps.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Part holds outcomes of jobs of one chunk. It never changes.
type Part struct {
	Outcomes []Outcome
}

// Outcome is how one job ended.
type Outcome struct {
	Index    int
	Kind     jobs.Kind
	Attempts int
	Reply    []byte // MessagePack
}

// Append writes the stored form.
func (p *Part) Append(dst []byte) []byte {
	dst = wire.AppendArray(dst, 2)
	dst = wire.AppendUint(dst, RecordVersion)
	dst = wire.AppendArray(dst, len(p.Outcomes))
	for _, o := range p.Outcomes {
		dst = wire.AppendArray(dst, 4)
		dst = wire.AppendUint(dst, uint64(o.Index))
		dst = wire.AppendStr(dst, string(o.Kind))
		dst = wire.AppendUint(dst, uint64(o.Attempts))
		dst = wire.AppendBin(dst, o.Reply)
	}
	return dst
}

// ParsePart reads the stored form; ErrNewer when a newer version wrote it.
func ParsePart(b []byte) (*Part, error) {
	in, err := open(b, 2)
	if err != nil {
		return nil, fmt.Errorf("outcomes of a batch: %w", err)
	}
	p := &Part{}
	for n := in.array(); n > 0 && in.err == nil; n-- {
		fields := in.array()
		o := Outcome{Index: int(in.uint()), Kind: jobs.Kind(in.str()), Attempts: int(in.uint()), Reply: in.bin()}
		in.skip(fields - 4)
		p.Outcomes = append(p.Outcomes, o)
	}
	if in.err != nil {
		return nil, fmt.Errorf("outcomes of a batch: %w", in.err)
	}
	return p, nil
}
