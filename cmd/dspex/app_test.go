package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dspex/dspex"
)

func TestEchoLMSaysWhereItListensAndEndsWhenInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	r, w := io.Pipe()
	a := &app{in: strings.NewReader(""), out: w, err: io.Discard, env: func(string) string { return "" }}
	ended := make(chan int, 1)
	go func() { ended <- a.execute(ctx, []string{"echo-lm", "--script", "status=418"}) }()
	line, err := bufio.NewReader(r).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if err != nil || !ok {
		t.Fatalf("it said %q, %v", line, err)
	}
	answer, err := http.Post(url+"/chat/completions", "application/json", strings.NewReader(`{"model":"echo","messages":[{"role":"user","content":"hi"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != 418 {
		t.Errorf("the script was not followed: status %d", answer.StatusCode)
	}
	interrupt()
	if status := <-ended; status != exitOK {
		t.Errorf("status %d", status)
	}
}

func TestCleanJSONIsHarmlessAndTheSameValue(t *testing.T) {
	for _, text := range []string{"plain é 日本 👨‍👩‍👧", "\x7f\u009b\u202e\u2066\u2028\ufeff\U000e0041", "a\nb\tc"} {
		before, err := json.Marshal(map[string]string{"t": text})
		if err != nil {
			t.Fatal(err)
		}
		after := cleanJSON(before)
		for _, r := range string(after) {
			if hostile(r) {
				t.Errorf("%q is left in %q", r, after)
			}
		}
		var back map[string]string
		if err := json.Unmarshal(after, &back); err != nil || back["t"] != text {
			t.Errorf("%q became %q (%v)", text, back["t"], err)
		}
	}
}

func TestCleanTextKeepsLinesAndLosesWhatDrivesATerminal(t *testing.T) {
	if got, want := clean("a\x1b]0;title\x07b\r\nc\xff\u202e"), "a]0;titleb\nc\uFFFD"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPasswordsAndTokensAreNotShown(t *testing.T) {
	for address, want := range map[string]string{
		"nats://u:p@h:4222":          "nats://...@h:4222",
		"nats://token@h, tls://h2:1": "nats://...@h,tls://h2:1",
		"nats://u:p%zz@h":            "an address that is no URL",
	} {
		if got := withoutPassword(address); got != want {
			t.Errorf("%s is shown as %s, want %s", address, got, want)
		}
	}
}

func TestPercentilesAreNearestRank(t *testing.T) {
	b := &tally{latencies: seconds(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)}
	for share, want := range map[float64]int{0.5: 5, 0.9: 9, 0.99: 10, 1: 10, 0: 1} {
		if got := b.at(share); got != seconds(want)[0] {
			t.Errorf("p%v is %v, want %d s", 100*share, got, want)
		}
	}
	if (&tally{}).at(0.5) != 0 {
		t.Error("no latencies, no percentile")
	}
}

func seconds(n ...int) []time.Duration {
	out := make([]time.Duration, len(n))
	for i := range n {
		out[i] = time.Duration(n[i]) * time.Second
	}
	return out
}

func TestADegradedPoolSaysWhy(t *testing.T) {
	rows := healthRows(dspex.Health{Status: dspex.Degraded, Reasons: []string{"one", "t\x1bwo"}})
	if rows[0] != (row{"status", "degraded"}) || rows[1] != (row{"reason", "one"}) || rows[2].name != "reason" || strings.ContainsRune(rows[2].value, 0x1b) || rows[3].name != "pool_size" {
		t.Errorf("%v", rows)
	}
}
