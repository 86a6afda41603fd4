package ops

import (
	"strings"
	"testing"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

func TestLinesOfLogsAreAligned(t *testing.T) {
	var out strings.Builder
	w := &logWriter{App: &cli.App{Out: &out, Output: "text", Env: func(string) string { return "" }}}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.Local)
	for _, l := range []dspex.LogLine{
		{At: at, Level: "info", Process: "worker-host", Name: "h1", Message: "worker_output", Fields: []dspex.LogField{{Key: "worker", Value: "h1/0"}, {Key: "text", Value: "a\x1b[31mb\nc  d"}, {Key: "stream", Value: "stderr"}}},
		{At: at, Level: "error", Process: "dispatcher", Name: "d1", Message: "broker_error", Fields: []dspex.LogField{{Key: "error", Value: "two words"}, {Key: "n", Value: 3}, {Key: "none", Value: ""}}},
		{At: at.AddDate(0, 0, 1), Level: "warn", Process: "dev", Name: "dev", Message: "x"},
	} {
		w.measure(l)
		if err := w.write(l); err != nil {
			t.Fatal(err)
		}
	}
	const want = `2026-01-02
03:04:05.006  info   h1  a[31mb c d worker=h1/0 stream=stderr
03:04:05.006  error  dispatcher/d1  broker_error error="two words" n=3 none=""
2026-01-03
03:04:05.006  warn   dev            x
`
	if out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
}

func TestALineThatIsTooLongIsFolded(t *testing.T) {
	for _, c := range []struct {
		at, width int
		want      string
	}{
		{10, 54, "aaaa bbbb cccc dddd eeee ffff gggg hhhh iiii\n          jjjj"},
		{30, 54, "aaaa bbbb cccc dddd eeee\n    ffff gggg hhhh iiii jjjj"},
		{30, 200, "aaaa bbbb cccc dddd eeee ffff gggg hhhh iiii jjjj"},
	} {
		if got := fold("aaaa bbbb cccc dddd eeee ffff gggg hhhh iiii jjjj", c.at, c.width); got != c.want {
			t.Errorf("%d of %d:\n%s", c.at, c.width, got)
		}
	}
}
