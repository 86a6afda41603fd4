package wire

import (
	"bytes"
	"math"
	"slices"
)

// Canonical returns the canonical form of b, a MessagePack value in any form, after [Check]: the shortest encodings
// and sorted keys. Two values are equal if and only if their canonical forms are. The result is a new slice.
func Canonical(b []byte, lim Limits) ([]byte, error) {
	if err := Check(b, lim); err != nil {
		return nil, err
	}
	w := rewriter{b: b, out: sorter{dst: make([]byte, 0, len(b)), scratch: takeScratch()}}
	defer w.out.giveBack()
	w.value(0)
	return w.out.dst, nil
}

// rewriter copies a checked value in canonical form.
type rewriter struct {
	b   []byte
	out sorter
}

// value rewrites the value at offset i and returns the offset behind it. Its recursion is bounded by the check.
func (w *rewriter) value(i int) int {
	if c := w.b[i]; c < 0x80 || c >= 0xe0 { // a small int
		w.out.dst = append(w.out.dst, c)
		return i + 1
	}
	t := scan(w.b, i)
	dst := w.out.dst
	switch t.kind {
	case Int:
		if t.neg {
			w.out.dst = AppendInt(dst, int64(t.bits))
		} else {
			w.out.dst = AppendUint(dst, t.bits)
		}
	case Float:
		w.out.dst = AppendFloat(dst, math.Float64frombits(t.bits))
	case Str:
		w.out.dst = append(appendStrHead(dst, t.n()), w.b[t.next:t.end()]...)
	case Bin:
		w.out.dst = AppendBin(dst, w.b[t.next:t.end()])
	case Array:
		w.out.dst = AppendArray(dst, t.n())
		at := t.next
		for range t.n() {
			at = w.value(at)
		}
		return at
	case Map:
		return w.mapping(t)
	default: // nil and bool have one form
		w.out.dst = append(dst, w.b[i])
	}
	return t.end()
}

func (w *rewriter) mapping(t token) int {
	w.out.dst = AppendMap(w.out.dst, t.n())
	base, start, at := len(w.out.entries), len(w.out.dst), t.next
	for range t.n() {
		key := scan(w.b, at)
		at = key.next + key.n()
		w.out.dst = append(appendStrHead(w.out.dst, key.n()), w.b[key.next:at]...)
		w.out.entries = append(w.out.entries, entry{key: len(w.out.dst) - key.n(), keyEnd: len(w.out.dst)})
		mark := len(w.out.entries) - 1
		at = w.value(at)
		w.out.entries[mark].end = len(w.out.dst)
	}
	w.out.sort(base, start)
	return at
}

// sorter holds canonical output and puts the entries of its maps in order.
type sorter struct {
	dst []byte
	*scratch
}

// sort orders the entries from base on, which are dst[start:], by their keys, and drops them. The keys differ.
func (s *sorter) sort(base, start int) {
	entries := s.entries[base:]
	s.entries = s.entries[:base]
	byKey := func(x, y entry) int { return bytes.Compare(x.text(s.dst), y.text(s.dst)) }
	if slices.IsSortedFunc(entries, byKey) {
		return
	}
	slices.SortFunc(entries, byKey)
	s.spare = append(s.spare[:0], s.dst[start:]...)
	s.dst = s.dst[:start]
	for _, e := range entries {
		head := e.key - strHeadSize(e.keyEnd-e.key)
		s.dst = append(s.dst, s.spare[head-start:e.end-start]...)
	}
}
