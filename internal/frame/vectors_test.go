package frame

import (
	"math"
	"strings"

	"github.com/dspex/dspex/internal/wire"
)

// pack is the MessagePack form of a JSON text.
func pack(text string) []byte {
	b, err := wire.FromJSON([]byte(text), wire.Pass)
	if err != nil {
		panic(err)
	}
	return b
}

var (
	noMap = pack(`{}`)
	state = []byte("\x81\xa1v\x01")
	stub  = pack(`{"engine":"stub"}`)
)

// vectorBodies has the bodies of the vectors as Go values, so that a field that is read and written at the same wrong
// place is noticed.
var vectorBodies = map[string]body{
	"init": InitBody{Proto: 1, Config: pack(`{"engine":"stub","slots":4,"worker":"a/1","imports":[],"history_turns":20,
		"history_bytes":65536,"state_bytes":4194304,"max_frame":16777216,"mode":"x"}`)},
	"call anonymous": CallBody{Command: "predict", Args: pack(`{"question":"What is 2+2?"}`), Job: "q17", Attempt: 1, BudgetMS: 30000, Options: noMap},
	"call of a session": CallBody{Command: "predict", Args: pack(`{"question":"Grüße","n":-5}`), Session: "s-1", Job: "job_1", Attempt: 3,
		BudgetMS: 1500, Options: pack(`{"stream":true,"temperature":0.5}`), State: state, StateVersion: 7, LM: "default"},
	"call with the largest numbers": CallBody{Command: "echo", Args: noMap, Job: "j", Attempt: math.MaxUint32, BudgetMS: math.MaxUint64,
		Options: noMap, StateVersion: math.MaxUint64},
	"call that is traced": CallBody{Command: "echo", Args: noMap, Job: "j", Attempt: 1, BudgetMS: 10, Options: noMap, Trace: CallSpans | CallTexts},
	"cancel":              CancelBody{Reason: "timeout"},
	"ping":                PingBody{TNS: 1700000000000000000},
	"drop":                DropBody{Session: "s-1"},
	"shutdown":            ShutdownBody{GraceMS: 5000},
	"lm": LMBody{Key: "p1", Profile: pack(`{"name":"p1","provider":"openai","model":"m","api_key":"k-test","timeout_ms":30000,
		"supports":{"response_schema":true,"function_calling":false}}`)},
	"fork":                 ForkBody{Nonce: "0f0f"},
	"program":              ProgramBody{ID: "qa", Version: 3, Record: pack(`{"v":1}`)},
	"program taken back":   ProgramBody{ID: "qa", Version: 4},
	"reap":                 ReapBody{PID: 4711},
	"forked":               ForkedBody{PID: 4711},
	"exited with a status": ExitedBody{PID: 4711, Code: 3},
	"exited by a signal":   ExitedBody{PID: 4711, Signal: 9},
	"hello": HelloBody{ProtoMin: 1, ProtoMax: 1, RuntimeVersion: "0.1.0", RuntimeHash: strings.Repeat("ab", 32), Python: "3.12.4",
		Implementation: "CPython", PID: 4242, Nonce: "0f0f", Codec: "msgspec"},
	"ready with engine": ReadyBody{Slots: 64, Commands: []string{"predict", "echo"}, Exclusive: []string{"optimize"}, Engine: "dspy",
		EngineVersion: "3.4.1", RSSBytes: 180000000, ImportMS: 2100},
	"ready with the stub":                   ReadyBody{Slots: 1, Engine: "stub", RSSBytes: 12000000},
	"result unchanged":                      ResultBody{Value: pack(`{"answer":"4"}`), Meta: pack(`{"engine":"stub","run_ms":1.5}`)},
	"result with state":                     ResultBody{Value: []byte("\x94\x01\xcb\x40\x04\x00\x00\x00\x00\x00\x00\xc0\xc4\x02\x00\xff"), Meta: pack(`{"engine":"dspy"}`), State: state, StateVersion: 8},
	"result with spans":                     ResultBody{Value: rawNil, Meta: pack(`{"engine":"stub","spans":[["program predict",false,0,1500,-1,{}],["chat echo",true,10,900,0,{"gen_ai.usage.input_tokens":12}]]}`)},
	"result nil":                            ResultBody{Value: rawNil, Meta: stub},
	"error":                                 ErrorBody{Category: "python", Code: "user_error", Message: "it broke", Detail: pack(`{"hint":"look","retryable":false,"python_type":"ValueError"}`)},
	"error of the worker":                   ErrorBody{Category: "initialization", Code: "import_failed", Message: "no module", Detail: noMap},
	"chunk with field":                      ChunkBody{N: 0, Field: "answer", Chunk: "The "},
	"chunk without field":                   ChunkBody{N: 300},
	"pong":                                  PongBody{TNS: 1700000000000000000, RSSBytes: 123456789, InFlight: 3},
	"log":                                   LogBody{Level: "info", Logger: "worker", Message: "started", Fields: pack(`{"n":1}`)},
	"bye":                                   ByeBody{Reason: "shutdown"},
	"lengths need not be the shortest":      CancelBody{Reason: "a"},
	"unknown trailing fields are ignored":   CancelBody{Reason: "timeout"},
	"missing trailing fields are nil, call": CallBody{Command: "echo", Args: noMap, Job: "j", Attempt: 1, BudgetMS: 10, Options: noMap},
}
