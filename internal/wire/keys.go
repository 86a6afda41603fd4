package wire

import (
	"bytes"
	"hash/maphash"
	"math/bits"
	"unicode"
	"unicode/utf8"
)

// entry is one entry of a map that is being walked: offsets into the bytes that hold it.
type entry struct {
	key, keyEnd int  // the text of the key
	end         int  // behind the value; set where maps are sorted
	plain       bool // the key is its own folded form; see plainKey
}

func (e entry) text(b []byte) []byte { return b[e.key:e.keyEnd] }

// keySet finds keys of one map that are the same or differ only by case: simple Unicode folding, as in
// strings.EqualFold. The zero value works; its buffers serve one map after the other.
type keySet struct {
	table []int32 // open addressing: index into the entries plus one
	fold  []byte
}

// pairwiseMax is the number of keys up to which comparing each with each is cheaper than hashing.
const pairwiseMax = 8

// hashSeed is random, so that nobody can prepare keys that collide.
var hashSeed = maphash.MakeSeed()

// clash returns the error about the first pair of keys that may not stand together, with the path of the later one.
func (s *keySet) clash(b []byte, entries []entry) *Error {
	if ascending(b, entries) {
		return nil
	}
	if len(entries) > pairwiseMax {
		return s.clashHashed(b, entries)
	}
	for i := range entries {
		for j := range i {
			if sameFolded(b, entries[j], entries[i]) {
				return clashError(b, entries[j], entries[i])
			}
		}
	}
	return nil
}

// ascending reports whether all keys are plain and each is greater than the one before: then no two can clash.
func ascending(b []byte, entries []entry) bool {
	for i, e := range entries {
		if !e.plain || i > 0 && bytes.Compare(entries[i-1].text(b), e.text(b)) >= 0 {
			return false
		}
	}
	return true
}

func (s *keySet) clashHashed(b []byte, entries []entry) *Error {
	size := 1 << bits.Len(uint(len(entries)*2-1))
	if cap(s.table) < size {
		s.table = make([]int32, size)
	}
	s.table = s.table[:size]
	clear(s.table)
	for i, e := range entries {
		at := s.hash(b, e) & uint64(size-1)
		for s.table[at] != 0 {
			if other := entries[s.table[at]-1]; sameFolded(b, other, e) {
				return clashError(b, other, e)
			}
			at = (at + 1) & uint64(size-1)
		}
		s.table[at] = int32(i) + 1
	}
	return nil
}

func (s *keySet) hash(b []byte, e entry) uint64 {
	if e.plain {
		return maphash.Bytes(hashSeed, e.text(b))
	}
	s.fold = s.fold[:0]
	for text := e.text(b); len(text) > 0; {
		r, n := utf8.DecodeRune(text)
		s.fold = utf8.AppendRune(s.fold, foldRune(r))
		text = text[n:]
	}
	return maphash.Bytes(hashSeed, s.fold)
}

// foldRune returns the same rune for all runes that are case variants of each other: an ASCII letter in lower case, or
// else the smallest of them.
func foldRune(r rune) rune {
	if r >= 0x2e80 && r < 0xa640 {
		return r // the scripts of East Asia have no case; the general way costs many times as much
	}
	least := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		least = min(least, f)
	}
	if 'A' <= least && least <= 'Z' {
		least += 'a' - 'A'
	}
	return least
}

func sameFolded(b []byte, x, y entry) bool {
	if x.plain && y.plain {
		return bytes.Equal(x.text(b), y.text(b))
	}
	return bytes.EqualFold(x.text(b), y.text(b))
}

func clashError(b []byte, first, second entry) *Error {
	e := &Error{Problem: KeyCase, Expected: "keys that differ by more than case"}
	if bytes.Equal(first.text(b), second.text(b)) {
		e = &Error{Problem: DuplicateKey, Expected: "each key once"}
	}
	return e.inKey(second.text(b))
}

// plainKey reports whether a key is plain, and whether it is valid UTF-8. Plain is ASCII without A to Z: two such keys
// clash only if they are equal. (The k and s of ASCII have variants elsewhere, but a key with those is not plain, and
// then both are folded.)
func plainKey(key []byte) (plain, valid bool) {
	plain = true
	for _, c := range key {
		if c >= utf8.RuneSelf {
			return false, utf8.Valid(key)
		}
		if c-'A' <= 'Z'-'A' {
			plain = false
		}
	}
	return plain, true
}
