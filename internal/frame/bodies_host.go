package frame

import (
	"slices"

	"github.com/dspex/dspex/internal/wire"
)

// The bodies that go from the host to the worker. The []byte fields of a parsed body are parts of the body's bytes.
// The fields stand in the order of the wire.

// InitBody is the first message to a worker.
type InitBody struct {
	Proto  uint64 // the protocol version
	Config []byte // a map in MessagePack
}

// AppendBody appends the body.
func (b InitBody) AppendBody(dst []byte) []byte {
	dst = wire.AppendArray(dst, 2)
	dst = wire.AppendUint(dst, b.Proto)
	return appendRaw(dst, b.Config, emptyMap)
}

// ParseInit checks and reads the body of a frame of type [Init].
func ParseInit(body []byte) (InitBody, error) {
	f := open(Init, body)
	b := InitBody{
		Proto:  f.uint("proto"),
		Config: f.mapping("config"),
	}
	return b, f.end()
}

// CallBody is one call.
type CallBody struct {
	Command      string
	Args         []byte // a map in MessagePack; empty means the empty map
	Session      string // empty: none
	Job          string
	Attempt      uint32 // from 1
	BudgetMS     uint64
	Options      []byte // a map in MessagePack; empty means the empty map
	State        []byte // nil: the worker has it, or at version 0 there is none
	StateVersion uint64
	LM           string // key of an LM frame sent before; empty: none
	Trace        uint64 // CallSpans, with CallTexts or without; 0: no spans
}

// What a worker is to report of a call in its RESULT or ERROR.
const (
	CallSpans = 1 // spans of the program, its calls of language models and of tools
	CallTexts = 2 // with prompts and answers
)

// AppendBody appends the body.
func (b CallBody) AppendBody(dst []byte) []byte {
	fields := 10
	if b.Trace != 0 {
		fields = 11
	}
	dst = wire.AppendArray(slices.Grow(dst, 128+len(b.Args)+len(b.Options)+len(b.State)), fields)
	dst = wire.AppendStr(dst, b.Command)
	dst = appendRaw(dst, b.Args, emptyMap)
	dst = appendOptStr(dst, b.Session)
	dst = wire.AppendStr(dst, b.Job)
	dst = wire.AppendUint(dst, uint64(b.Attempt))
	dst = wire.AppendUint(dst, b.BudgetMS)
	dst = appendRaw(dst, b.Options, emptyMap)
	dst = appendOptBin(dst, b.State)
	dst = wire.AppendUint(dst, b.StateVersion)
	dst = appendOptStr(dst, b.LM)
	if b.Trace != 0 {
		dst = wire.AppendUint(dst, b.Trace)
	}
	return dst
}

// ParseCall checks and reads the body of a frame of type [Call].
func ParseCall(body []byte) (CallBody, error) {
	f := open(Call, body)
	b := CallBody{
		Command:      f.str("command"),
		Args:         f.mapping("args"),
		Session:      f.optStr("session"),
		Job:          f.str("job"),
		Attempt:      f.uint32("attempt"),
		BudgetMS:     f.uint("budget_ms"),
		Options:      f.mapping("options"),
		State:        f.bin("state"),
		StateVersion: f.uint("state_version"),
		LM:           f.optStr("lm"),
		Trace:        f.optUint("trace"),
	}
	return b, f.end()
}

// CancelBody is the end of a call that is not needed any more.
type CancelBody struct {
	Reason string
}

// AppendBody appends the body.
func (b CancelBody) AppendBody(dst []byte) []byte {
	return appendOneStr(dst, b.Reason)
}

// ParseCancel checks and reads the body of a frame of type [Cancel].
func ParseCancel(body []byte) (CancelBody, error) {
	v, err := parseOneStr(Cancel, body, "reason")
	return CancelBody{Reason: v}, err
}

// PingBody is a heartbeat.
type PingBody struct {
	TNS uint64 // nanoseconds of the host's clock; PONG repeats them
}

// AppendBody appends the body.
func (b PingBody) AppendBody(dst []byte) []byte {
	return appendOneUint(dst, b.TNS)
}

// ParsePing checks and reads the body of a frame of type [Ping].
func ParsePing(body []byte) (PingBody, error) {
	v, err := parseOneUint(Ping, body, "t_ns")
	return PingBody{TNS: v}, err
}

// DropBody is the order to drop what is cached of a session.
type DropBody struct {
	Session string
}

// AppendBody appends the body.
func (b DropBody) AppendBody(dst []byte) []byte {
	return appendOneStr(dst, b.Session)
}

// ParseDrop checks and reads the body of a frame of type [Drop].
func ParseDrop(body []byte) (DropBody, error) {
	v, err := parseOneStr(Drop, body, "session")
	return DropBody{Session: v}, err
}

// ShutdownBody is the order to end.
type ShutdownBody struct {
	GraceMS uint64
}

// AppendBody appends the body.
func (b ShutdownBody) AppendBody(dst []byte) []byte {
	return appendOneUint(dst, b.GraceMS)
}

// ParseShutdown checks and reads the body of a frame of type [Shutdown].
func ParseShutdown(body []byte) (ShutdownBody, error) {
	v, err := parseOneUint(Shutdown, body, "grace_ms")
	return ShutdownBody{GraceMS: v}, err
}

// LMBody is the definition of an LM profile. The profile holds keys of providers: it is never logged.
type LMBody struct {
	Key     string
	Profile []byte // a map in MessagePack
}

// AppendBody appends the body.
func (b LMBody) AppendBody(dst []byte) []byte {
	dst = wire.AppendArray(dst, 2)
	dst = wire.AppendStr(dst, b.Key)
	return appendRaw(dst, b.Profile, emptyMap)
}

// ParseLM checks and reads the body of a frame of type [LM].
func ParseLM(body []byte) (LMBody, error) {
	f := open(LM, body)
	b := LMBody{
		Key:     f.str("key"),
		Profile: f.mapping("profile"),
	}
	return b, f.end()
}

// ProgramBody is a program that an operator gave to all hosts, from now on; a nil record takes it back.
type ProgramBody struct {
	ID      string
	Version uint64
	Record  []byte // a map in MessagePack, nil: there is none any more
}

// AppendBody appends the body.
func (b ProgramBody) AppendBody(dst []byte) []byte {
	dst = wire.AppendArray(dst, 3)
	dst = wire.AppendStr(dst, b.ID)
	dst = wire.AppendUint(dst, b.Version)
	return appendRaw(dst, b.Record, rawNil)
}

// ParseProgram checks and reads the body of a frame of type [Program].
func ParseProgram(body []byte) (ProgramBody, error) {
	f := open(Program, body)
	b := ProgramBody{
		ID:      f.str("id"),
		Version: f.uint("version"),
		Record:  f.optMapping("record"),
	}
	return b, f.end()
}

// ForkBody is the order to a zygote to fork a worker. Its four pipes come with it.
type ForkBody struct {
	Nonce string // the worker's DSPEX_NONCE
}

// AppendBody appends the body.
func (b ForkBody) AppendBody(dst []byte) []byte {
	return appendOneStr(dst, b.Nonce)
}

// ParseFork checks and reads the body of a frame of type [Fork].
func ParseFork(body []byte) (ForkBody, error) {
	v, err := parseOneStr(Fork, body, "nonce")
	return ForkBody{Nonce: v}, err
}

// ReapBody is the permission to a zygote to reap a worker that has ended: its process group is dealt with.
type ReapBody struct {
	PID uint64
}

// AppendBody appends the body.
func (b ReapBody) AppendBody(dst []byte) []byte {
	return appendOneUint(dst, b.PID)
}

// ParseReap checks and reads the body of a frame of type [Reap].
func ParseReap(body []byte) (ReapBody, error) {
	v, err := parseOneUint(Reap, body, "pid")
	return ReapBody{PID: v}, err
}
