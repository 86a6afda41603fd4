package openai

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/dspex/dspex"
)

// heard is a sink that records each text that it got.
type heard struct {
	got    chan string
	deltas []string
	ended  *string
	failed *failure
}

func (h *heard) begin() {}

func (h *heard) delta(text string) error {
	h.deltas = append(h.deltas, text)
	h.got <- text
	return nil
}

func (h *heard) alive() error { return nil }

func (h *heard) end(text string, _ used) error { h.ended = &text; return nil }

func (h *heard) fail(f *failure) error { h.failed = f; return nil }

func TestAStreamSaysWhatTheAnswerIsOrThatItIsVoid(t *testing.T) {
	for _, c := range []struct {
		name   string
		first  []dspex.Chunk // sent before
		second []dspex.Chunk
		answer string
		deltas string
		void   bool
	}{
		{"more comes at the end", []dspex.Chunk{{Attempt: 1, Field: "answer", Text: "ab"}}, nil, "abc", "ab|c", false},
		{"spaces around it are held back", []dspex.Chunk{{Attempt: 1, Field: "answer", Text: " ab "}}, []dspex.Chunk{{Attempt: 1, Field: "answer", Text: "c \n"}}, "ab c", "ab| c", false},
		{"a later attempt says the same", []dspex.Chunk{{Attempt: 1, Field: "answer", Text: "ab"}}, []dspex.Chunk{{Attempt: 2, Field: "answer", Text: "abc"}}, "abcd", "ab|cd", false},
		{"a later attempt says something else", []dspex.Chunk{{Attempt: 1, Field: "answer", Text: "ab"}}, []dspex.Chunk{{Attempt: 2, Field: "answer", Text: "xyz"}}, "xyz", "ab", true},
		{"another output and another call are left out", []dspex.Chunk{{Attempt: 1, Field: "answer", Text: "ab"}}, []dspex.Chunk{{Attempt: 1, Field: "why", Text: "x"}, {Attempt: 1, Call: 1, Field: "answer", Text: "y"}}, "ab", "ab", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &plan{field: "answer", live: true}
			h := &heard{got: make(chan string, 10)}
			tapped := &tap{changed: make(chan struct{})}
			go tapped.take(func(yield func(dspex.Chunk, error) bool) {
				for _, chunk := range c.first {
					yield(chunk, nil)
				}
				<-h.got
				for _, chunk := range c.second {
					yield(chunk, nil)
				}
				result, _ := json.Marshal(map[string]any{"answer": c.answer})
				yield(dspex.Chunk{Attempt: 2, Reply: &dspex.Reply{Result: result}}, nil)
			}, m)
			if f, gone := relay(context.Background(), tapped, m, h); f != nil || gone {
				t.Fatalf("%v %v", f, gone)
			}
			// How the pieces are cut depends on who is faster, so what was sent before is looked at apart.
			if all := strings.Join(h.deltas, ""); all != strings.ReplaceAll(c.deltas, "|", "") || !strings.HasPrefix(c.deltas, h.deltas[0]) {
				t.Errorf("%q", h.deltas)
			}
			if c.void != (h.failed != nil && h.failed.Code == "stream_void") || c.void == (h.ended != nil) {
				t.Errorf("failed %v, ended %v", h.failed, h.ended)
			}
		})
	}
}
