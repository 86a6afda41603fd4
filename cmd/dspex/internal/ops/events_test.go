package ops

import (
	"strings"
	"testing"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

func TestAnEventIsALine(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	for _, row := range []struct {
		name, raw, line string
		lost            int
	}{
		{"dspex.circuit_breaker.opened", `{"event": "e", "at": "x", "host": "h1", "breaker": {"name": "lm.gpt", "state": "open", "failure_count": 5}}`, "03:04:05  circuit_breaker.opened        name=lm.gpt state=open host=h1", 0},
		{"dspex.batch.ended", `{"tenant": "default", "batch": {"batch": "b1", "phase": "ended"}}`, "03:04:05  batch.ended                   batch=b1 phase=ended tenant=default", 0},
		{"dspex.store.lost", `{"stream": "a\u001b[31mb\nc", "held": null}`, "03:04:05  store.lost                    stream=a[31mb c", 3},
	} {
		t.Run(row.name, func(t *testing.T) {
			var out, trouble strings.Builder
			a := &cli.App{Out: &out, Err: &trouble, Output: "text", Env: func(string) string { return "" }}
			if err := sayEvent(a, dspex.Event{Name: row.name, At: at, Raw: []byte(row.raw), Lost: row.lost}); err != nil {
				t.Fatal(err)
			}
			if out.String() != row.line+"\n" {
				t.Errorf("got %q, expected %q", out.String(), row.line)
			}
			if said := strings.Contains(trouble.String(), "3 events were lost"); said != (row.lost > 0) {
				t.Errorf("of lost events: %q", trouble.String())
			}
		})
	}
}
