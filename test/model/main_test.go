//go:build model

package model

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/programtest"
)

var (
	binary string // the dspex program, built for these tests
	file   string // where the model lies, put together by the first server
)

func TestMain(m *testing.M) {
	os.Exit(programtest.Run(m, func(bin, dir string) (func(), error) {
		binary, file = filepath.Join(bin, "dspex"), filepath.Join(dir, "model.gguf")
		return nil, nil
	}, "../../cmd/dspex"))
}

// python is an interpreter that `make test-model` names.
func python(t *testing.T, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Fatalf("%s names an interpreter: run `make test-model`", variable)
	}
	return path
}

// server is llama.cpp's server, which can be stopped and started again at its address.
type server struct {
	url   string
	slots int
	port  string
	run   *programtest.Running
	said  said
}

// said keeps what a process writes.
type said struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{} // holds a token when something came; nil: nobody waits
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
	return s.buf.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// await waits for a line, beginning at an offset, and returns its groups and the offset behind it.
func (s *said) await(ctx context.Context, t *testing.T, from int, line *regexp.Regexp) (groups []string, after int) {
	t.Helper()
	for {
		text := s.String()[from:]
		if found := line.FindStringSubmatchIndex(text); found != nil {
			for n := 2; n < len(found); n += 2 {
				groups = append(groups, text[found[n]:found[n+1]])
			}
			return groups, from + found[1]
		}
		select {
		case <-s.more:
		case <-ctx.Done():
			t.Fatalf("the server did not say %s:\n%s", line, text)
		}
	}
}

// newServer is one that was not started.
func newServer(t *testing.T, slots int) *server {
	t.Helper()
	address := natstest.FreeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	s := &server{url: "http://" + address, slots: slots, port: port, said: said{more: make(chan struct{}, 1)}}
	t.Cleanup(s.stop)
	return s
}

// tokensOfASlot is the context of each slot.
const tokensOfASlot = 1024

// start returns when the model is loaded.
func (s *server) start(t *testing.T) {
	t.Helper()
	cmd := programtest.Guarded(python(t, "DSPEX_TEST_MODEL_PYTHON"), "server.py", file, s.port, strconv.Itoa(s.slots), strconv.Itoa(tokensOfASlot))
	cmd.Stderr = &s.said
	var err error
	if s.run, err = programtest.Start(cmd); err != nil {
		t.Fatalf("%v\n%s", err, s.said.String())
	}
}

func (s *server) stop() {
	if s.run != nil {
		s.run.Stop()
		s.run = nil
	}
}

// What the server reports of its slots. It is not polled: its answers to /slots keep it from looking whether a client has gone.
var (
	begins = regexp.MustCompile(`launch_slot_: id +\d+ \| task \d+ \| processing task`)
	cancel = regexp.MustCompile(`stop: cancel task`)
	frees  = regexp.MustCompile(`release: id +\d+ \| task \d+ \| stop processing: n_tokens = (\d+)`)
	loads  = regexp.MustCompile(`load_model: loading model`)
)

// busy counts the slots that work.
func (s *server) busy(t *testing.T) int {
	t.Helper()
	answer, err := http.Get(s.url + "/slots")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var found []struct {
		Busy bool `json:"is_processing"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&found); err != nil || len(found) != s.slots {
		t.Fatalf("slots: %v, %+v", err, found)
	}
	busy := 0
	for _, one := range found {
		if one.Busy {
			busy++
		}
	}
	return busy
}

// status is that of the server's answer, whether or not its model is loaded.
func (s *server) status(t *testing.T) int {
	t.Helper()
	answer, err := http.Get(s.url + "/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	answer.Body.Close()
	return answer.StatusCode
}

var block = regexp.MustCompile("(?s)## llama.cpp\n.*?```json\n(.*?)```")

// profiles writes the profile that docs/language-models.md shows, with the server's address and what makes its answers repeat, and
// returns the file.
func profiles(t *testing.T, s *server) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/language-models.md")
	if err != nil {
		t.Fatal(err)
	}
	text := block.FindSubmatch(page)
	var found struct {
		Default  string                    `json:"default"`
		Profiles map[string]map[string]any `json:"profiles"`
	}
	if text == nil || json.Unmarshal(text[1], &found) != nil || len(found.Profiles) != 1 {
		t.Fatalf("docs/language-models.md shows no profile of llama.cpp, but %s", text)
	}
	one := found.Profiles[found.Default]
	address := one["api_base"].(string)
	one["api_base"] = strings.Replace(address, "http://127.0.0.1:8080", s.url, 1)
	one["temperature"], one["max_tokens"] = 0, 48
	again, err := json.Marshal(found)
	path := filepath.Join(t.TempDir(), "profiles.json")
	if err := errors.Join(err, os.WriteFile(path, again, 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

// dev starts `dspex dev` for a server and returns a client.
func dev(t *testing.T, s *server, module string) (context.Context, *dspex.Client) {
	t.Helper()
	var log said
	cmd := programtest.Guarded(binary, "dev", "--listen", "127.0.0.1:0", "--workers", "1", "--lm", profiles(t, s), "--import", module,
		"--breaker-timeout", "2s", "--operation-timeout", "5m")
	cmd.Stderr = &log
	d, err := programtest.Start(cmd)
	if err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	t.Cleanup(d.Stop)
	ctx, cancel := context.WithTimeout(context.Background(), 45*time.Minute)
	t.Cleanup(cancel)
	c, err := dspex.Connect(ctx, d.Ready)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return ctx, c
}

// program is a request for one.
func program(id string, inputs map[string]any) dspex.Args {
	return dspex.Args{"program_id": id, "inputs": inputs}
}
