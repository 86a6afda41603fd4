package frame

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/dspex/dspex/internal/wire"
)

// vector is one entry of contract/vectors/frame.json; contract/vectors/README.md explains the fields.
type vector struct {
	Name     string          `json:"name"`
	Type     Type            `json:"type"`
	TypeName string          `json:"type_name"`
	ID       uint64          `json:"id"`
	Fields   json.RawMessage `json:"fields"`
	Hex      string          `json:"hex"`
	ReadOnly bool            `json:"read_only"`
	Refuse   string          `json:"refuse"`
	Max      int             `json:"max"`
}

func (v vector) bytes(t testing.TB) []byte {
	t.Helper()
	b, err := hex.DecodeString(v.Hex)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readVectors(t testing.TB) []vector {
	t.Helper()
	b, err := os.ReadFile("../../contract/vectors/frame.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Frames []vector `json:"frames"`
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Frames) < 50 {
		t.Fatalf("only %d vectors", len(file.Frames))
	}
	return file.Frames
}

// body is what all bodies have.
type body interface{ AppendBody(dst []byte) []byte }

// parse calls the Parse function of a type.
func parse(t Type, b []byte) (body, error) {
	switch t {
	case Init:
		return ParseInit(b)
	case Call:
		return ParseCall(b)
	case Cancel:
		return ParseCancel(b)
	case Ping:
		return ParsePing(b)
	case Drop:
		return ParseDrop(b)
	case Shutdown:
		return ParseShutdown(b)
	case LM:
		return ParseLM(b)
	case Program:
		return ParseProgram(b)
	case Hello:
		return ParseHello(b)
	case Ready:
		return ParseReady(b)
	case Result:
		return ParseResult(b)
	case Error:
		return ParseError(b)
	case Chunk:
		return ParseChunk(b)
	case Pong:
		return ParsePong(b)
	case Log:
		return ParseLog(b)
	case Fork:
		return ParseFork(b)
	case Reap:
		return ParseReap(b)
	case Forked:
		return ParseForked(b)
	case Exited:
		return ParseExited(b)
	}
	return ParseBye(b)
}

func reader(b []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(b)) }

func TestVectorsAreRead(t *testing.T) {
	for _, v := range readVectors(t) {
		if v.Refuse != "" {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			whole := v.bytes(t)
			f, err := Read(reader(whole), v.Max)
			switch {
			case err != nil:
				t.Fatalf("err must be nil, got %v; Read = %v %d, %v", err, f.Type, f.ID, err)
			case f.Type != v.Type:
				t.Fatalf("f.Type must be v.Type, got %v; Read = %v %d, %v", f.Type, f.Type, f.ID, err)
			case f.ID != v.ID:
				t.Fatalf("f.ID must be v.ID, got %v; Read = %v %d, %v", f.ID, f.Type, f.ID, err)
			case f.Type.String() != v.TypeName:
				t.Fatalf("f.Type.String() must be v.TypeName, got %v; Read = %v %d, %v", f.Type.String(), f.Type, f.ID, err)
			}
			got, err := parse(f.Type, f.Body)
			if err != nil {
				t.Fatal(err)
			}
			want, ok := vectorBodies[v.Name]
			if !ok || !reflect.DeepEqual(got, want) {
				t.Errorf("body %#v; want %#v", got, want)
			}
			if v.ReadOnly {
				return
			}
			written := want.AppendBody(nil)
			written = append(AppendHeader(nil, v.Type, v.ID, len(written)), written...)
			if !bytes.Equal(written, whole) {
				t.Errorf("written  %x\nexpected %x", written, whole)
			}
			if fields := fromJSON(t, v.Fields); !bytes.Equal(fields, f.Body) {
				t.Errorf("fields %s are %x; the body is %x", v.Fields, fields, f.Body)
			}
		})
	}
}

// fromJSON returns the fields of a vector in MessagePack, {"$bin": hex} as bin.
func fromJSON(t *testing.T, text []byte) []byte {
	t.Helper()
	packed, err := wire.FromJSON(text, wire.Pass)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := wire.Decode(packed, &v); err != nil {
		t.Fatal(err)
	}
	out, err := wire.Encode(withBins(t, v))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func withBins(t *testing.T, v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = withBins(t, v[i])
		}
	case map[string]any:
		if text, ok := v["$bin"].(string); ok {
			b, err := hex.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		for k := range v {
			v[k] = withBins(t, v[k])
		}
	}
	return v
}

func TestVectorsAreRefused(t *testing.T) {
	for _, v := range readVectors(t) {
		if v.Refuse == "" {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			f, err := Read(reader(v.bytes(t)), v.Max)
			var broken *ProtocolError
			switch v.Refuse {
			case "eof":
				if err != io.ErrUnexpectedEOF {
					t.Errorf("Read = %v", err)
				}
			case "header":
				if !errors.As(err, &broken) || !strings.Contains(err.Error(), "must ") {
					t.Errorf("Read = %v", err)
				}
			case "body":
				if err != nil {
					t.Fatal(err)
				}
				var value *wire.Error
				if _, err := parse(f.Type, f.Body); !errors.As(err, &broken) || !errors.As(err, &value) {
					t.Errorf("Parse = %v", err)
				} else if !strings.Contains(err.Error(), v.TypeName) {
					t.Errorf("%v does not name the type", err)
				}
			default:
				t.Errorf("unknown kind of refusal %q", v.Refuse)
			}
		})
	}
}

func TestEveryTypeHasVectorAndName(t *testing.T) {
	seen := map[Type]bool{}
	for _, v := range readVectors(t) {
		if v.Refuse == "" {
			seen[v.Type] = true
		}
	}
	for n := range 256 {
		if known := Type(n).known(); known != seen[Type(n)] {
			t.Errorf("type %d: known %v, in the vectors %v", n, known, seen[Type(n)])
		}
	}
	if got := Type(200).String(); got != "type 200" {
		t.Error(got)
	}
}

func TestBodyErrorsNameTheField(t *testing.T) {
	_, err := ParseCall([]byte("\x93\xa4echo\x80\x05"))
	if got, want := err.Error(), "frame: CALL, field 3 (session): wire: bad_type: expected a str, not int"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
	_, err = ParseResult([]byte("\x91\x82\xa1a\x01\xa1a\x02"))
	if got, want := err.Error(), "frame: body of RESULT: wire: [0].a: duplicate_key: expected each key once"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
}

func TestEmptyRawFieldsHaveDefaults(t *testing.T) {
	call, err := ParseCall(CallBody{}.AppendBody(nil))
	if want := (CallBody{Args: noMap, Options: noMap}); err != nil || !reflect.DeepEqual(call, want) {
		t.Errorf("%#v, %v", call, err)
	}
	result, err := ParseResult(ResultBody{State: []byte{}}.AppendBody(nil))
	if want := (ResultBody{Value: rawNil, Meta: noMap, State: []byte{}}); err != nil || !reflect.DeepEqual(result, want) {
		t.Errorf("%#v, %v", result, err)
	}
}

func TestFramesAreReadOneAfterTheOther(t *testing.T) {
	var stream []byte
	sizes := []int{0, 1, 15, growStep - 1, growStep, growStep + 1, 3*growStep + 7, 1 << 20}
	for i, n := range sizes {
		stream = AppendHeader(stream, Chunk, uint64(i), n)
		stream = append(stream, bytes.Repeat([]byte{byte(i)}, n)...)
	}
	for name, in := range map[string]io.Reader{
		"at once":      bytes.NewReader(stream),
		"by bytes":     iotest.OneByteReader(bytes.NewReader(stream)),
		"by halves":    iotest.HalfReader(bytes.NewReader(stream)),
		"data and EOF": iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		r := bufio.NewReaderSize(in, 4096)
		for i, n := range sizes {
			f, err := Read(r, 0)
			if err != nil || f.ID != uint64(i) || !bytes.Equal(f.Body, bytes.Repeat([]byte{byte(i)}, n)) {
				t.Fatalf("%s: frame %d: id %d, %d bytes, %v", name, i, f.ID, len(f.Body), err)
			}
		}
		if _, err := Read(r, 0); err != io.EOF {
			t.Errorf("%s: at the end: %v", name, err)
		}
	}
}

func TestReadErrorsOfTheStreamArePassedOn(t *testing.T) {
	broken := errors.New("broken pipe")
	for _, n := range []int{0, 7, HeaderSize, HeaderSize + 3} {
		whole := append(AppendHeader(nil, Ping, 0, 8), make([]byte, 8)...)
		in := io.MultiReader(bytes.NewReader(whole[:n]), iotest.ErrReader(broken))
		if _, err := Read(bufio.NewReader(in), 0); !errors.Is(err, broken) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

func TestLimitsOfRead(t *testing.T) {
	for _, c := range []struct {
		max, length int
		ok          bool
	}{
		{0, DefaultMax, true}, {0, DefaultMax + 1, false}, {100, 100, true}, {100, 101, false},
		{HardMax + 5, HardMax, true}, {HardMax + 5, HardMax + 1, false}, {-1, DefaultMax, true},
	} {
		_, err := Read(reader(AppendHeader(nil, Log, 0, c.length)), c.max)
		var broken *ProtocolError
		if refused := errors.As(err, &broken); refused == c.ok || c.ok && err != io.ErrUnexpectedEOF {
			t.Errorf("max %d, length %d: %v", c.max, c.length, err)
		}
	}
}

func TestDeclaredLengthTakesLittleMemory(t *testing.T) {
	for sent := range 4 {
		in := append(AppendHeader(nil, Result, 1, HardMax), make([]byte, sent*growStep)...)
		r := bufio.NewReaderSize(bytes.NewReader(in), 4096)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Read(r, HardMax)
		runtime.ReadMemStats(&after)
		if err != io.ErrUnexpectedEOF {
			t.Fatal(err)
		}
		// What arrived, in steps that double, plus as much again.
		if got, limit := after.TotalAlloc-before.TotalAlloc, uint64(4*sent*growStep+growStep+16<<10); got > limit {
			t.Errorf("%d bytes sent: %d allocated, at most %d wanted", sent*growStep, got, limit)
		}
	}
}

func TestSmallFramesTakeOneAllocation(t *testing.T) {
	whole := append(AppendHeader(nil, Ping, 0, 2), 0x91, 0x05)
	in := bytes.NewReader(nil)
	r := bufio.NewReader(in)
	got := testing.AllocsPerRun(100, func() {
		in.Reset(whole)
		r.Reset(in)
		f, err := Read(r, 0)
		if err != nil {
			t.Error(err)
		}
		if _, err := ParsePing(f.Body); err != nil {
			t.Error(err)
		}
	})
	if got > 1 {
		t.Errorf("%v allocations", got)
	}
}

func FuzzFrameRead(f *testing.F) {
	for _, v := range readVectors(f) {
		f.Add(v.bytes(f))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := reader(b)
		for at := 0; ; {
			fr, err := Read(r, 1<<20)
			if err != nil {
				var broken *ProtocolError
				if !errors.As(err, &broken) && err != io.ErrUnexpectedEOF && (err != io.EOF || at != len(b)) {
					t.Fatalf("at %d of %d: %v", at, len(b), err)
				}
				return
			}
			again := append(AppendHeader(nil, fr.Type, fr.ID, len(fr.Body)), fr.Body...)
			if !bytes.HasPrefix(b[at:], again) {
				t.Fatalf("read %x at %d of %x", again, at, b)
			}
			at += len(again)
			checkBody(t, fr)
		}
	})
}

// checkBody demands that what is parsed survives being written.
func checkBody(t *testing.T, f Frame) {
	first, err := parse(f.Type, f.Body)
	if err != nil {
		if _, ok := errors.AsType[*ProtocolError](err); !ok {
			t.Fatal(err)
		}
		return
	}
	written := first.AppendBody(nil)
	second, err := parse(f.Type, written)
	if err != nil || !reflect.DeepEqual(first, second) {
		t.Fatalf("%#v became %#v, %v", first, second, err)
	}
}
