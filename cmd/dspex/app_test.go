package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/daemon"
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
	if status := <-ended; status != daemon.ExitOK {
		t.Errorf("status %d", status)
	}
}

func TestDevServesMetricsAndCommandsOfOnesOwn(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "shop.py"), []byte("from dspex_worker import command\n\n\n@command\ndef price():\n    return 42\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out, said := io.Pipe()
	var hints lines
	a := &app{in: strings.NewReader(""), out: said, err: &hints, env: func(string) string { return "" }}
	ended := make(chan int, 1)
	go func() {
		status := a.execute(ctx, []string{"dev", "--engine", "stub", "--listen", "127.0.0.1:0", "--workers", "1", "--metrics", "127.0.0.1:0", "--import", "shop", "--path", dir})
		said.Close()
		ended <- status
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if err != nil || !ok {
		t.Fatalf("it said %q, %v: %s", line, err, hints.String())
	}
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := nc.Request("dspex.rpc.anonymous", []byte(`{"command":"price"}`), 30*time.Second); err != nil || !strings.Contains(string(m.Data), `"result":42`) {
		t.Errorf("%v %+v", err, m)
	}
	nc.Close()
	address := regexp.MustCompile(`(?m)^metrics (http://\S+)$`).FindStringSubmatch(hints.String())
	if address == nil {
		t.Fatalf("no address of the metrics: %s", hints.String())
	}
	answer, err := http.Get(address[1])
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	for _, metric := range []string{"dspex_pool_requests_total 1", "dspex_hosts 1", "dspex_workers{", "go_goroutines "} {
		if err != nil || !strings.Contains(string(page), "\n"+metric) {
			t.Errorf("no %s (%v)", metric, err)
		}
	}
	interrupt()
	if status := <-ended; status != daemon.ExitOK {
		t.Errorf("status %d: %s", status, hints.String())
	}
}

// lines keeps what is written by one goroutine and read by another.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
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

func TestColoursAreForTerminalsThatWantThem(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	for env, want := range map[[2]string]string{{"", ""}: "\x1b[32mready\x1b[0m", {"NO_COLOR", "1"}: "ready", {"TERM", "dumb"}: "ready", {"NO_COLOR", ""}: "\x1b[32mready\x1b[0m"} {
		a := &app{env: func(name string) string {
			if name == env[0] {
				return env[1]
			}
			return ""
		}}
		if got := a.paint(terminal, green, "ready"); got != want {
			t.Errorf("%v: %q", env, got)
		}
		if got := a.paint(new(strings.Builder), green, "ready"); got != "ready" {
			t.Errorf("%v, no terminal: %q", env, got)
		}
	}
}

func TestArgumentsThatAreNotUTF8AreRefusedNotRepaired(t *testing.T) {
	for text, words := range map[string][]string{"": {"a:=\"\xff\""}, "{}": {"a=[\"\xff\"]"}, "{\"a\": \"\xff\"}": nil} {
		if args, err := new(app).parseArgs(words, text); err == nil || !strings.Contains(err.Error(), "UTF-8") {
			t.Errorf("%q %q: %q %v", text, words, args, err)
		}
	}
}

func TestPasswordsAndTokensAreNotShown(t *testing.T) {
	for address, want := range map[string]string{
		"nats://u:p@h:4222":          "nats://...@h:4222",
		"nats://token@h, tls://h2:1": "nats://...@h,tls://h2:1",
		"nats://u:p%zz@h":            "an address that is no URL",
	} {
		if got := daemon.WithoutPassword(address); got != want {
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
	rows := healthRows(dspex.Health{Status: dspex.HealthDegraded, Accounts: true, Reasons: []string{"one", "t\x1bwo"}})
	if rows[0] != (row{"status", "degraded"}) || rows[1] != (row{"reason", "one"}) || rows[2].name != "reason" || strings.ContainsRune(rows[2].value, 0x1b) || rows[3].name != "pool_size" {
		t.Errorf("%v", rows)
	}
}

func TestAPoolWhoseClientsShareAnAccountSaysSo(t *testing.T) {
	if rows := healthRows(dspex.Health{Status: dspex.HealthHealthy}); rows[1].name != "note" {
		t.Errorf("%v", rows)
	}
}
