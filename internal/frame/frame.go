// Package frame is the wire between a worker-host and its Python workers: contract/frame.md in Go. It reads and
// writes frame headers and the bodies of each type. It is independent of processes and jobs, and it does not decide what a
// protocol error leads to: the host kills the worker.
package frame

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Type is the type of a frame.
type Type uint8

// The types. Those below 64 go from the host to the worker, the others back.
const (
	Init     Type = 1
	Call     Type = 2
	Cancel   Type = 3
	Ping     Type = 5
	Drop     Type = 8
	Shutdown Type = 9
	LM       Type = 11
	Fork     Type = 12 // to a zygote only, as Reap
	Reap     Type = 13
	Program  Type = 14

	Hello  Type = 64
	Ready  Type = 65
	Result Type = 66
	Error  Type = 67
	Chunk  Type = 68
	Pong   Type = 69
	Log    Type = 70
	Bye    Type = 72
	Forked Type = 73 // from a zygote only, as Exited
	Exited Type = 74
)

var typeNames = [...]string{
	Init: "INIT", Call: "CALL", Cancel: "CANCEL", Ping: "PING", Drop: "DROP", Shutdown: "SHUTDOWN", LM: "LM",
	Fork: "FORK", Reap: "REAP", Program: "PROGRAM", Forked: "FORKED", Exited: "EXITED",
	Hello: "HELLO", Ready: "READY", Result: "RESULT", Error: "ERROR", Chunk: "CHUNK", Pong: "PONG", Log: "LOG", Bye: "BYE",
}

func (t Type) known() bool { return int(t) < len(typeNames) && typeNames[t] != "" }

// String returns the name of the type in upper case, as the contract writes it.
func (t Type) String() string {
	if t.known() {
		return typeNames[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// Sizes in bytes.
const (
	HeaderSize = 16
	DefaultMax = 16 << 20 // the limit of a body where none is configured
	HardMax    = 64 << 20 // no configuration allows more
)

// growStep is the memory that the declared length of a body claims before bytes arrive; after that the claim is at
// most as much as has arrived.
const growStep = 2 << 20

// Frame is one frame. ID is the call it belongs to, 0 for the connection.
type Frame struct {
	Type Type
	ID   uint64
	Body []byte
}

// ProtocolError reports how the other side broke the contract. The stream cannot be read further.
type ProtocolError struct {
	Reason string
	Err    error // a *wire.Error if the values of a body are the reason, else nil
}

// Error returns the reason.
func (e *ProtocolError) Error() string {
	if e.Err != nil {
		return "frame: " + e.Reason + ": " + e.Err.Error()
	}
	return "frame: " + e.Reason
}

// Unwrap returns Err.
func (e *ProtocolError) Unwrap() error { return e.Err }

// Read reads one frame whose body has at most max bytes: 0 means [DefaultMax], and it is never more than [HardMax].
// It blocks until the frame is whole. The error is io.EOF only where the stream ends between two frames,
// io.ErrUnexpectedEOF inside of one, a [*ProtocolError] for a header that breaks the contract, else what r failed
// with. The body is a new slice and is not checked: the Parse functions do that.
func Read(r *bufio.Reader, max int) (Frame, error) {
	head, err := r.Peek(HeaderSize)
	if err != nil {
		if errors.Is(err, io.EOF) && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	f, length, err := parseHeader(head, limit(max))
	if err != nil {
		return Frame{}, err
	}
	if _, err := r.Discard(HeaderSize); err != nil {
		return Frame{}, err // cannot be: Peek has them
	}
	f.Body, err = readBody(r, length)
	return f, err
}

func limit(max int) int {
	if max <= 0 {
		max = DefaultMax
	}
	return min(max, HardMax)
}

func parseHeader(head []byte, max int) (Frame, int, error) {
	f := Frame{Type: Type(head[2]), ID: binary.LittleEndian.Uint64(head[8:])}
	length := binary.LittleEndian.Uint32(head[4:])
	switch {
	case head[0] != 'D' || head[1] != 'X':
		return f, 0, &ProtocolError{Reason: fmt.Sprintf("the magic must be DX, got bytes % x", head[:2])}
	case !f.Type.known():
		return f, 0, &ProtocolError{Reason: fmt.Sprintf("the type must be a known one, got %d", head[2])}
	case head[3] != 0:
		return f, 0, &ProtocolError{Reason: fmt.Sprintf("flags of %s must be 0, got %#x", f.Type, head[3])}
	case uint64(length) > uint64(max):
		return f, 0, &ProtocolError{Reason: fmt.Sprintf("%s must have at most %d bytes, got a length of %d", f.Type, max, length)}
	}
	return f, int(length), nil
}

// readBody reads length bytes into memory that grows as they arrive.
func readBody(r *bufio.Reader, length int) ([]byte, error) {
	body := make([]byte, min(length, growStep))
	for at := 0; ; {
		n, err := io.ReadFull(r, body[at:])
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if at += n; at == length {
			return body, nil
		}
		grown := make([]byte, min(length, 2*at))
		copy(grown, body)
		body = grown
	}
}

// AppendHeader appends the header of a frame whose body has length bytes. That length is not above the limit of the
// reader is up to the caller.
func AppendHeader(dst []byte, t Type, id uint64, length int) []byte {
	dst = append(dst, 'D', 'X', byte(t), 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(length))
	return binary.LittleEndian.AppendUint64(dst, id)
}
