package frame

import "github.com/dspex/dspex/internal/wire"

// The bodies that go from the worker to the host. The []byte fields of a parsed body are parts of the body's bytes.
// The fields stand in the order of the wire.

// HelloBody is who the worker is.
type HelloBody struct {
	ProtoMin       uint64
	ProtoMax       uint64
	RuntimeVersion string
	RuntimeHash    string
	Python         string // version
	Implementation string
	PID            uint64
	Nonce          string // repeats DSPEX_NONCE
	Codec          string
}

// AppendBody appends the body.
func (b HelloBody) AppendBody(dst []byte) []byte {
	dst = wire.AppendArray(dst, 9)
	dst = wire.AppendUint(dst, b.ProtoMin)
	dst = wire.AppendUint(dst, b.ProtoMax)
	dst = wire.AppendStr(dst, b.RuntimeVersion)
	dst = wire.AppendStr(dst, b.RuntimeHash)
	dst = wire.AppendStr(dst, b.Python)
	dst = wire.AppendStr(dst, b.Implementation)
	dst = wire.AppendUint(dst, b.PID)
	dst = wire.AppendStr(dst, b.Nonce)
	return wire.AppendStr(dst, b.Codec)
}

// ParseHello checks and reads the body of a frame of type [Hello].
func ParseHello(body []byte) (HelloBody, error) {
	f := open(Hello, body)
	b := HelloBody{
		ProtoMin:       f.uint("proto_min"),
		ProtoMax:       f.uint("proto_max"),
		RuntimeVersion: f.str("runtime_version"),
		RuntimeHash:    f.str("runtime_hash"),
		Python:         f.str("python"),
		Implementation: f.str("implementation"),
		PID:            f.uint("pid"),
		Nonce:          f.str("nonce"),
		Codec:          f.str("codec"),
	}
	return b, f.end()
}

// ReadyBody is what the worker can do.
type ReadyBody struct {
	Slots         uint64 // concurrent calls
	Commands      []string
	Exclusive     []string // commands that run alone
	Engine        string
	EngineVersion string // empty: none
	RSSBytes      uint64
	ImportMS      uint64
}

// AppendBody appends the body.
func (b ReadyBody) AppendBody(dst []byte) []byte {
	dst = wire.AppendArray(dst, 7)
	dst = wire.AppendUint(dst, b.Slots)
	dst = appendStrs(dst, b.Commands)
	dst = appendStrs(dst, b.Exclusive)
	dst = wire.AppendStr(dst, b.Engine)
	dst = appendOptStr(dst, b.EngineVersion)
	dst = wire.AppendUint(dst, b.RSSBytes)
	return wire.AppendUint(dst, b.ImportMS)
}

// ParseReady checks and reads the body of a frame of type [Ready].
func ParseReady(body []byte) (ReadyBody, error) {
	f := open(Ready, body)
	b := ReadyBody{
		Slots:         f.uint("slots"),
		Commands:      f.strs("commands"),
		Exclusive:     f.strs("exclusive"),
		Engine:        f.str("engine"),
		EngineVersion: f.optStr("engine_version"),
		RSSBytes:      f.uint("rss_bytes"),
		ImportMS:      f.uint("import_ms"),
	}
	return b, f.end()
}

// ResultBody is the success of a call.
type ResultBody struct {
	Value        []byte // in MessagePack; empty means nil
	Meta         []byte // a map in MessagePack; empty means the empty map
	State        []byte // nil: unchanged
	StateVersion uint64
}

// AppendBody appends the body.
func (b ResultBody) AppendBody(dst []byte) []byte {
	dst = wire.AppendArray(dst, 4)
	dst = appendRaw(dst, b.Value, rawNil)
	dst = appendRaw(dst, b.Meta, emptyMap)
	dst = appendOptBin(dst, b.State)
	return wire.AppendUint(dst, b.StateVersion)
}

// ParseResult checks and reads the body of a frame of type [Result].
func ParseResult(body []byte) (ResultBody, error) {
	f := open(Result, body)
	b := ResultBody{
		Value:        f.value("value"),
		Meta:         f.mapping("meta"),
		State:        f.bin("state"),
		StateVersion: f.uint("state_version"),
	}
	return b, f.end()
}

// ErrorBody is the failure of a call or, with id 0, of the worker.
type ErrorBody struct {
	Category string
	Code     string
	Message  string
	Detail   []byte // a map in MessagePack; empty means the empty map
}

// AppendBody appends the body.
func (b ErrorBody) AppendBody(dst []byte) []byte {
	dst = wire.AppendArray(dst, 4)
	dst = wire.AppendStr(dst, b.Category)
	dst = wire.AppendStr(dst, b.Code)
	dst = wire.AppendStr(dst, b.Message)
	return appendRaw(dst, b.Detail, emptyMap)
}

// ParseError checks and reads the body of a frame of type [Error].
func ParseError(body []byte) (ErrorBody, error) {
	f := open(Error, body)
	b := ErrorBody{
		Category: f.str("category"),
		Code:     f.str("code"),
		Message:  f.str("message"),
		Detail:   f.mapping("detail"),
	}
	return b, f.end()
}

// ChunkBody is partial output of a call.
type ChunkBody struct {
	N     uint64 // counts from 0
	Field string // empty: none
	Chunk string
	Call  uint64 // number of the model's call that it belongs to, where the job makes more than one: 0 is the first
}

// AppendBody appends the body.
func (b ChunkBody) AppendBody(dst []byte) []byte {
	n := 3
	if b.Call > 0 {
		n++
	}
	dst = wire.AppendArray(dst, n)
	dst = wire.AppendUint(dst, b.N)
	dst = appendOptStr(dst, b.Field)
	dst = wire.AppendStr(dst, b.Chunk)
	if b.Call > 0 {
		dst = wire.AppendUint(dst, b.Call)
	}
	return dst
}

// ParseChunk checks and reads the body of a frame of type [Chunk].
func ParseChunk(body []byte) (ChunkBody, error) {
	f := open(Chunk, body)
	b := ChunkBody{
		N:     f.uint("n"),
		Field: f.optStr("field"),
		Chunk: f.str("chunk"),
		Call:  f.optUint("call"),
	}
	return b, f.end()
}

// PongBody is the answer to PING.
type PongBody struct {
	TNS      uint64
	RSSBytes uint64
	InFlight uint64 // calls
}

// AppendBody appends the body.
func (b PongBody) AppendBody(dst []byte) []byte {
	dst = wire.AppendArray(dst, 3)
	dst = wire.AppendUint(dst, b.TNS)
	dst = wire.AppendUint(dst, b.RSSBytes)
	return wire.AppendUint(dst, b.InFlight)
}

// ParsePong checks and reads the body of a frame of type [Pong].
func ParsePong(body []byte) (PongBody, error) {
	f := open(Pong, body)
	b := PongBody{
		TNS:      f.uint("t_ns"),
		RSSBytes: f.uint("rss_bytes"),
		InFlight: f.uint("in_flight"),
	}
	return b, f.end()
}

// LogBody is a log line.
type LogBody struct {
	Level   string
	Logger  string
	Message string
	Call    uint64 // 0: none
	Fields  []byte // a map in MessagePack; empty means the empty map
}

// AppendBody appends the body.
func (b LogBody) AppendBody(dst []byte) []byte {
	dst = wire.AppendArray(dst, 5)
	dst = wire.AppendStr(dst, b.Level)
	dst = wire.AppendStr(dst, b.Logger)
	dst = wire.AppendStr(dst, b.Message)
	dst = wire.AppendUint(dst, b.Call)
	return appendRaw(dst, b.Fields, emptyMap)
}

// ParseLog checks and reads the body of a frame of type [Log].
func ParseLog(body []byte) (LogBody, error) {
	f := open(Log, body)
	b := LogBody{
		Level:   f.str("level"),
		Logger:  f.str("logger"),
		Message: f.str("message"),
		Call:    f.uint("call"),
		Fields:  f.mapping("fields"),
	}
	return b, f.end()
}

// ByeBody is the last frame of a worker that ends.
type ByeBody struct {
	Reason string
}

// AppendBody appends the body.
func (b ByeBody) AppendBody(dst []byte) []byte {
	return appendOneStr(dst, b.Reason)
}

// ParseBye checks and reads the body of a frame of type [Bye].
func ParseBye(body []byte) (ByeBody, error) {
	v, err := parseOneStr(Bye, body, "reason")
	return ByeBody{Reason: v}, err
}

// ForkedBody is a zygote's answer to FORK.
type ForkedBody struct {
	PID uint64
}

// AppendBody appends the body.
func (b ForkedBody) AppendBody(dst []byte) []byte {
	return appendOneUint(dst, b.PID)
}

// ParseForked checks and reads the body of a frame of type [Forked].
func ParseForked(body []byte) (ForkedBody, error) {
	v, err := parseOneUint(Forked, body, "pid")
	return ForkedBody{PID: v}, err
}

// ExitedBody reports that a worker of a zygote has ended.
type ExitedBody struct {
	PID    uint64
	Code   uint64 // exit status, 0 if a signal ended it
	Signal uint64 // 0 if it exited
}

// AppendBody appends the body.
func (b ExitedBody) AppendBody(dst []byte) []byte {
	dst = wire.AppendArray(dst, 3)
	dst = wire.AppendUint(dst, b.PID)
	dst = wire.AppendUint(dst, b.Code)
	return wire.AppendUint(dst, b.Signal)
}

// ParseExited checks and reads the body of a frame of type [Exited].
func ParseExited(body []byte) (ExitedBody, error) {
	f := open(Exited, body)
	b := ExitedBody{
		PID:    f.uint("pid"),
		Code:   f.uint("code"),
		Signal: f.uint("signal"),
	}
	return b, f.end()
}
