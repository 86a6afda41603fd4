package wire

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

const request = `{"command":"predict","args":{"question":"What is the capital of France?"},"options":{"timeout":30000}}`

// records is a list of n small maps with unsorted keys, as clients send it.
func records(n int) string {
	var b strings.Builder
	b.WriteByte('[')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"name":"item %d","id":%d,"score":%d.5,"tags":["a","b"],"ok":true}`, i, i, i)
	}
	b.WriteByte(']')
	return b.String()
}

func numbers(n int) string { return "[" + strings.Repeat("1234567,", n-1) + "1]" }

func packed(t testing.TB, text string) []byte {
	t.Helper()
	b, err := FromJSON([]byte(text), Pass)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAllocationsOfSmallValues(t *testing.T) {
	b, text := packed(t, request), []byte(request)
	unsorted := []byte("\x83\xa1c\x01\xa1B\x02\xa1a\x03")
	dst := make([]byte, 0, 1024)
	for name, c := range map[string]struct {
		max float64
		run func() error
	}{
		"Check":               {0, func() error { return Check(b, Request) }},
		"Check unsorted keys": {0, func() error { return Check(unsorted, Request) }},
		"FromJSON":            {3, func() error { _, err := FromJSON(text, Request); return err }},
		"Canonical":           {3, func() error { _, err := Canonical(b, Request); return err }},
		"AppendJSON":          {0, func() error { _, err := AppendJSON(dst, b); return err }},
		"Reader":              {0, func() error { r := NewReader(b); _, err := r.Map(); return err }},
	} {
		got := testing.AllocsPerRun(100, func() {
			if err := c.run(); err != nil {
				t.Error(err)
			}
		})
		if got > c.max {
			t.Errorf("%s: %v allocations, at most %v wanted", name, got, c.max)
		}
	}
}

// TestHostileInputTakesLittleMemory feeds inputs that claim or build far more than they are.
func TestHostileInputTakesLittleMemory(t *testing.T) {
	const mib = 1 << 20
	manyKeys := AppendMap(nil, 50_000)
	for i := range 50_000 {
		manyKeys = AppendNil(AppendStr(manyKeys, fmt.Sprint("K", 50_000-i)))
	}
	for name, b := range map[string][]byte{
		"array of 4 G":           []byte("\xdd\xff\xff\xff\xff"),
		"map of 4 G":             []byte("\xdf\xff\xff\xff\xff"),
		"str of 4 G":             []byte("\xdb\xff\xff\xff\xff"),
		"bin of 4 G":             []byte("\xc6\xff\xff\xff\xff"),
		"heads of 4 G":           bytes.Repeat([]byte("\xdd\xff\xff\xff\xff"), mib/5),
		"heads as long as there": bytes.Repeat([]byte("\xdd\x00\x00\xff\x00"), mib/5),
		"deep arrays":            bytes.Repeat([]byte{0x91}, 4*mib),
		"deep maps":              bytes.Repeat([]byte("\x81\xa1a"), mib),
		"deep JSON":              bytes.Repeat([]byte("["), 4*mib),
		"deep JSON maps":         bytes.Repeat([]byte(`{"a":`), mib),
		"many keys":              manyKeys,
	} {
		for by, run := range map[string]func(){
			"Check":     func() { _ = Check(b, Pass) },
			"Canonical": func() { _, _ = Canonical(b, Pass) },
			"FromJSON":  func() { _, _ = FromJSON(b, Pass) },
			"Decode":    func() { var s struct{ A [][]string }; _ = Decode(b, &s) },
			"Skip":      func() { _ = NewReader(b).Skip() },
		} {
			if got, limit := allocated(run), uint64(len(b)*64+64<<10); got > limit {
				t.Errorf("%s of %s (%d bytes): %d bytes allocated, at most %d wanted", by, name, len(b), got, limit)
			}
		}
	}
}

func allocated(run func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	run()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestLimitsCountValuesAndKeys(t *testing.T) {
	for text, nodes := range map[string]int{`1`: 1, `[]`: 1, `{}`: 1, `[1,2]`: 3, `{"a":1}`: 3, `{"a":{"b":[1,2]}}`: 7} {
		b := packed(t, text)
		for _, lim := range []Limits{{Depth: 64, Nodes: nodes}, {Depth: 64, Nodes: nodes - 1}} {
			_, fromJSON := FromJSON([]byte(text), lim)
			check := Check(b, lim)
			if want := lim.Nodes == nodes; (check == nil) != want || (fromJSON == nil) != want {
				t.Errorf("%s with %d nodes: %v, %v", text, lim.Nodes, check, fromJSON)
			}
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	for name, text := range samples() {
		in := packed(b, text)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				if err := Check(in, Pass); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFromJSON(b *testing.B) {
	for name, text := range samples() {
		in := []byte(text)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				if _, err := FromJSON(in, Pass); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCanonical(b *testing.B) {
	for name, text := range samples() {
		in := packed(b, text)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				if _, err := Canonical(in, Pass); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	for name, text := range samples() {
		in := packed(b, text)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			var dst []byte
			for b.Loop() {
				var err error
				if dst, err = AppendJSON(dst[:0], in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func samples() map[string]string {
	return map[string]string{
		"request_100B":  request,
		"records_10KB":  records(140),
		"numbers_1MB":   numbers(125_000),
		"text_1MB":      `{"text":"` + strings.Repeat("All work and no play. ", 48_000) + `"}`,
		"unicode_100KB": `{"text":"` + strings.Repeat("日本語のテキスト", 4_000) + `"}`,
	}
}
