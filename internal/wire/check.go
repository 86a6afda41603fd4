package wire

import (
	"sync"
	"unicode/utf8"
)

// Check reports whether b is exactly one MessagePack value within the limits that keeps all rules of values.md, in
// any of its encodings. The error is an [*Error]. Check does not copy or keep b, and allocates nothing but room for the
// keys of large maps, in proportion to the keys that are there.
func Check(b []byte, lim Limits) error {
	if err := check(b, lim); err != nil {
		return err
	}
	return nil
}

type checker struct {
	b     []byte
	nodes int // left
	lim   Limits
	*scratch
}

// scratch is the memory that a walk needs besides its result.
type scratch struct {
	entries []entry // of the maps that are open, the innermost last
	keys    keySet
	spare   []byte
	room    [16]entry // for the entries of most values
}

var scratches = sync.Pool{New: func() any {
	s := new(scratch)
	s.entries = s.room[:0]
	return s
}}

func takeScratch() *scratch { return scratches.Get().(*scratch) }

// giveBack returns s to the pool, unless a large value has made it large: that is rare, and the pool keeps what it has.
func (s *scratch) giveBack() {
	const entriesMax, spareMax = 1 << 10, 64 << 10
	if cap(s.entries) <= entriesMax && cap(s.spare) <= spareMax && cap(s.keys.fold) <= spareMax {
		s.entries = s.entries[:0]
		scratches.Put(s)
	}
}

func check(b []byte, lim Limits) *Error {
	c := checker{b: b, nodes: lim.Nodes, lim: lim, scratch: takeScratch()}
	defer c.giveBack()
	if err := c.count(1); err != nil {
		return err
	}
	end, err := c.value(0, 0)
	if err == nil && end < len(c.b) {
		err = &Error{Problem: Trailing, Expected: "the end behind one value"}
	}
	return err
}

// count takes n nodes: a container pays for its contents at once, so that a value too large is refused early.
func (c *checker) count(n int) *Error {
	if n > c.nodes {
		return tooLarge(c.lim.Nodes)
	}
	c.nodes -= n
	return nil
}

// scalar returns the offset behind the value at offset i if it is a whole nil, bool or number, else 0. These have
// nothing to check but their length, and are most of what large values are made of.
func (c *checker) scalar(i int) int {
	if i < len(c.b) {
		if size := int(scalarSizes[c.b[i]]); size > 0 && size <= len(c.b)-i {
			return i + size
		}
	}
	return 0
}

// value walks the value at offset i, inside of depth containers, and returns the offset behind it.
func (c *checker) value(i, depth int) (int, *Error) {
	if end := c.scalar(i); end > 0 {
		return end, nil
	}
	t := scan(c.b, i)
	switch t.kind {
	case Str:
		if !utf8.Valid(c.b[t.next:t.end()]) {
			return 0, badUTF8("text")
		}
		return t.end(), nil
	case Bin:
		return t.end(), nil
	case Array:
		return c.array(t, depth)
	case Map:
		return c.mapping(t, depth)
	}
	return 0, badHead(t.kind)
}

// badHead is the error about a head that begins no value.
func badHead(k Kind) *Error {
	if k == End {
		return truncated("a whole value of the declared lengths")
	}
	return &Error{Problem: BadType, Expected: "nil, bool, int, float, str, bin, array or map, no extension type"}
}

func (c *checker) array(t token, depth int) (int, *Error) {
	if depth >= c.lim.Depth {
		return 0, tooDeep(c.lim.Depth)
	}
	if err := c.count(t.n()); err != nil {
		return 0, err
	}
	at := t.next
	for k := range t.n() {
		if end := c.scalar(at); end > 0 {
			at = end
			continue
		}
		next, err := c.value(at, depth+1)
		if err != nil {
			return 0, err.inIndex(k)
		}
		at = next
	}
	return at, nil
}

func (c *checker) mapping(t token, depth int) (int, *Error) {
	if depth >= c.lim.Depth {
		return 0, tooDeep(c.lim.Depth)
	}
	if err := c.count(2 * t.n()); err != nil {
		return 0, err
	}
	base, at := len(c.entries), t.next
	for range t.n() {
		e, err := c.key(at)
		if err != nil {
			return 0, err
		}
		c.entries = append(c.entries, e)
		if at, err = c.value(e.keyEnd, depth+1); err != nil {
			return 0, err.inKey(e.text(c.b))
		}
	}
	err := c.keys.clash(c.b, c.entries[base:])
	c.entries = c.entries[:base]
	return at, err
}

func (c *checker) key(at int) (entry, *Error) {
	t := scan(c.b, at)
	if t.kind != Str {
		return entry{}, unexpected(t.kind, "a str as key")
	}
	e := entry{key: t.next, keyEnd: t.end()}
	plain, valid := plainKey(e.text(c.b))
	if !valid {
		return entry{}, badUTF8("a key")
	}
	e.plain = plain || c.lim.AnyCase // then only the same key twice is a clash
	return e, nil
}
