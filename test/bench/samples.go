//go:build linux

package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// sessions is how many sessions take turns: more than run at once, few enough that each is used again.
const sessions = 10_000

func session(n int) string { return fmt.Sprintf("user_%d", n%sessions) }

// argument makes the one argument of echo.
func argument(size int) string { return strings.Repeat("x", size) }

// callBody is what a client sends: about 100 bytes.
var callBody = []byte(`{"command": "echo", "args": {"text": "` + argument(60) + `"}}`)

// stored are the values of one job of callBody as a host writes them: the parts are measured with the same bytes.
type stored struct{ reply, head, record, result []byte }

func samples() stored {
	value := wire.AppendStr(wire.AppendStr(wire.AppendMap(nil, 1), "text"), argument(60))
	reply := (&jobs.Reply{Job: "q123456", Attempt: 1, Session: session(1), Host: "bench", Worker: "bench/1", State: jobs.None,
		Engine: "stub", Result: value}).Append(nil)
	now := time.Now()
	inbox := "_INBOX.0123456789abcdefghijkl.12"
	last := &jobs.Outcome{Job: "q123456", Sequence: 123456, Epoch: 70, Attempt: 1, Kind: jobs.Succeeded, Mode: jobs.ModeCall,
		ReplyTo: inbox, Type: jobs.JSON, Body: reply}
	record := &jobs.Record{Stream: now.UnixNano(), LastSequence: 123456, Created: now, Updated: now, Jobs: 12, Host: "bench",
		Worker: "bench/1", Last: last}
	result := &jobs.Result{Session: session(1), Job: "q123456", Sequence: 123456, Attempt: 1, Kind: jobs.Succeeded, Body: reply, Stored: now}
	head := &jobs.Head{Stream: now.UnixNano(), Epoch: 70, Sequence: 123456, Attempt: 1}
	return stored{reply, head.Append(nil), record.Append(nil), result.Append(nil)}
}
