// Package wire has the values that dspex moves, in their two spellings: JSON and MessagePack (contract/values.md).
//
// Bytes from outside pass through [FromJSON], [Canonical] or [Check] before anything decodes them: these walk a value
// whole, allocate nothing on the word of a length, and report where a value breaks a rule. What they accept is safe for
// [Reader], [Decode] and [AppendJSON]. [Encode] and the Append functions write values.
//
// The package does no I/O, keeps no state, and is independent of requests, frames or jobs.
package wire

// Limits bounds a value. The zero value allows nothing: use [Request] or [Pass].
type Limits struct {
	Depth int // arrays and maps inside each other; a scalar has depth 0
	Nodes int // values plus map keys
	// AnyCase lets keys of one map differ by case only. Nobody reads what a program returned into a struct on the way.
	AnyCase bool
}

var (
	// Request bounds what a client may send.
	Request = Limits{Depth: 64, Nodes: 100_000}
	// Pass bounds a value that is checked and passed on without being decoded.
	Pass = Limits{Depth: 64, Nodes: 1_000_000, AnyCase: true}
	// decoding bounds what becomes Go values: a node of two bytes costs more than a hundred once it is a map.
	decoding = Limits{Depth: 64, Nodes: 131_072, AnyCase: true}
)

// Kind is the kind of a value.
type Kind uint8

// The kinds of values. End means that no whole head is left; Invalid, a code that no value of ours begins with
// (MessagePack extensions and 0xc1).
const (
	End Kind = iota
	Invalid
	Nil
	Bool
	Int
	Float
	Str
	Bin
	Array
	Map
)

var kindNames = [...]string{"end", "invalid", "nil", "bool", "int", "float", "str", "bin", "array", "map"}

// String returns the kind in lower case, for messages.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}
