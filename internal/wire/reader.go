package wire

import "math"

// Reader reads the parts of a MessagePack value in order. It is made for bytes that [Check] has accepted; on others it
// returns errors but does not find all that is wrong. After an error the position is unchanged.
type Reader struct {
	b []byte
	i int
}

// NewReader returns a Reader at the start of b, which it does not copy.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Kind returns the kind of the next value, End if there is none.
func (r *Reader) Kind() Kind { return scan(r.b, r.i).kind }

// Nil reports whether the next value is nil, and consumes it only then.
func (r *Reader) Nil() bool {
	if r.i < len(r.b) && r.b[r.i] == 0xc0 {
		r.i++
		return true
	}
	return false
}

// Bool reads a bool.
func (r *Reader) Bool() (bool, error) {
	t, err := r.take(Bool)
	return t.bits == 1, err
}

// Int reads an integer up to 2^63-1.
func (r *Reader) Int() (int64, error) {
	at := r.i
	t, err := r.take(Int)
	if err == nil && !t.neg && t.bits > math.MaxInt64 {
		r.i = at
		return 0, &Error{Problem: BadType, Expected: "an int of at most 2^63-1"}
	}
	return int64(t.bits), err
}

// Uint reads an integer that is not negative.
func (r *Reader) Uint() (uint64, error) {
	at := r.i
	t, err := r.take(Int)
	if t.neg {
		r.i = at
		return 0, &Error{Problem: BadType, Expected: "an int that is not negative"}
	}
	return t.bits, err
}

// Float reads a float or, rounded to the nearest float, an integer.
func (r *Reader) Float() (float64, error) {
	t := scan(r.b, r.i)
	if t.kind != Int {
		t, err := r.take(Float)
		return math.Float64frombits(t.bits), err
	}
	r.i = t.next
	if t.neg {
		return float64(int64(t.bits)), nil
	}
	return float64(t.bits), nil
}

// Str reads a str into a new string.
func (r *Reader) Str() (string, error) {
	b, err := r.contents(Str)
	return string(b), err
}

// Bin reads a bin. The result is a part of the bytes that are read.
func (r *Reader) Bin() ([]byte, error) { return r.contents(Bin) }

// Array reads the head of an array and returns how many values follow.
func (r *Reader) Array() (int, error) {
	t, err := r.take(Array)
	return t.n(), err
}

// Map reads the head of a map and returns how many entries follow, each a str and a value.
func (r *Reader) Map() (int, error) {
	t, err := r.take(Map)
	return t.n(), err
}

// Raw reads one whole value. The result is a part of the bytes that are read.
func (r *Reader) Raw() ([]byte, error) {
	at := r.i
	if err := r.Skip(); err != nil {
		return nil, err
	}
	return r.b[at:r.i:r.i], nil
}

// Skip passes over one whole value. It uses no memory, however deep the value is.
func (r *Reader) Skip() error {
	i := r.i
	for left := 1; left > 0; left-- {
		t := scan(r.b, i)
		i = t.next
		switch t.kind {
		case End, Invalid:
			return unexpected(t.kind, "a value")
		case Str, Bin:
			i += t.n()
		case Array:
			left += t.n()
		case Map:
			left += 2 * t.n()
		}
	}
	r.i = i
	return nil
}

// Rest returns the bytes that are not read yet.
func (r *Reader) Rest() []byte { return r.b[r.i:] }

func (r *Reader) take(want Kind) (token, error) {
	t := scan(r.b, r.i)
	if t.kind != want {
		return token{}, unexpected(t.kind, kindArticles[want])
	}
	r.i = t.next
	return t, nil
}

func (r *Reader) contents(want Kind) ([]byte, error) {
	t, err := r.take(want)
	if err != nil {
		return nil, err
	}
	r.i += t.n()
	return r.b[t.next:r.i:r.i], nil
}

var kindArticles = [...]string{
	Nil: "nil", Bool: "a bool", Int: "an int", Float: "a float", Str: "a str", Bin: "a bin", Array: "an array", Map: "a map",
}

func unexpected(got Kind, want string) *Error {
	if got == End {
		return truncated(want)
	}
	return &Error{Problem: BadType, Expected: want + ", not " + got.String()}
}
