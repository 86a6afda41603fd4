package dispatch_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// submitted is the answer to jobs.submit.
type submitted struct {
	Result struct{ Jobs []string }
	Error  struct {
		Code, Path, Expected string
		Retryable            bool
	}
	Invalid []struct {
		Index int
		Error struct{ Code, Path string }
	}
}

func submit(t *testing.T, nc *nats.Conn, list ...string) (s submitted) {
	t.Helper()
	m, err := nc.Request(contract.RPCJobsSubmit, []byte(`{"jobs": [`+strings.Join(list, ",")+`]}`), 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(m.Data, &s); err != nil {
		t.Fatalf("%v: %s", err, m.Data)
	}
	return s
}

// listed are n jobs with ids from a number on, all with the same more.
func listed(from, n int, more string) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf(`{"job": "j%d", "command": "echo", "args": {"n": %d}%s}`, from+i, from+i, more))
	}
	return list
}

// kept is the number of jobs in a stream.
func kept(t *testing.T, nc *nats.Conn, name string) (n uint64) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context(), jetstream.WithSubjectFilter(">"))
	if err != nil {
		t.Fatal(err)
	}
	for subject, of := range info.State.Subjects {
		if subject != stream.AnchorSubject {
			n += of
		}
	}
	return n
}

func TestJobsOfOneStreamAreStoredAllOrNone(t *testing.T) {
	nc := start(t)
	const session = `, "session": "s1"`
	bad := listed(0, 10, session)
	bad[3] = `{"job": "j3", "session": "s1", "command": "No Name"}`
	bad[5] = bad[4]
	bad[6] = `{"session": "s1", "command": "echo"}`
	bad[7] = `{"job": "j7", "session": "s1", "lane": "batch", "command": "echo"}`
	bad[8] = `{"job": "j8", "session": "s1", "command": "echo", "reply_to": "dspex.session.s2"}`
	s := submit(t, nc, bad...)
	var at []string
	for _, i := range s.Invalid {
		at = append(at, fmt.Sprint(i.Index, " ", i.Error.Path, " ", i.Error.Code))
	}
	if want := []string{"3 command bad_request", "5 job bad_job_id", "6 job bad_job_id", "7 lane bad_request", "8 reply_to bad_reply_subject"}; s.Error.Code != jobs.CodeBadBatch || !slices.Equal(at, want) {
		t.Errorf("bad jobs: %s %v, want %v", s.Error.Code, at, want)
	}
	for name, list := range map[string][]string{
		"none":            {},
		"too many":        listed(0, contract.MaxTogether+1, ""),
		"mixed":           append(listed(0, 2, session), listed(2, 1, "")...),
		"of one session":  listed(0, 257, session),
		"of no map":       {"7"},
		"one of a reader": {`{"job": "a", "command": "echo", "args": 5, "session": "s1"}`},
	} {
		if s := submit(t, nc, list...); s.Error.Code != jobs.CodeBadRequest && s.Error.Code != jobs.CodeBadBatch || s.Error.Retryable {
			t.Errorf("%s: %+v", name, s.Error)
		}
	}
	if n := kept(t, nc, stream.Jobs) + kept(t, nc, stream.Anonymous); n != 0 {
		t.Fatalf("%d jobs were stored", n)
	}

	s = submit(t, nc, listed(0, 200, session)...)
	if len(s.Result.Jobs) != 200 || s.Result.Jobs[199] != "j199" || kept(t, nc, stream.Jobs) != 200 {
		t.Fatalf("of 200 jobs %d are stored: %+v", kept(t, nc, stream.Jobs), s)
	}
	if s := submit(t, nc, append(listed(0, 5, `, "session": "s2"`), listed(200, 57, session)...)...); s.Error.Code != jobs.CodeQueueFull || !s.Error.Retryable {
		t.Errorf("more than its queue has room for: %+v", s.Error)
	}
	if n := kept(t, nc, stream.Jobs); n != 200 {
		t.Errorf("%d jobs are stored, want 200", n)
	}
}

func TestAJobOfASubmissionIsStoredAsAClientPublishesIt(t *testing.T) {
	nc := start(t)
	submit(t, nc, listed(1, 1, `, "lane": "interactive", "reply_to": "dspex.reply.mine", "options": {"timeout": 1000}`)...)
	submit(t, nc, listed(2, contract.MaxTogether, "")...)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), stream.Anonymous)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetLastMsgForSubject(t.Context(), "dspex.anonymous.interactive")
	if err != nil {
		t.Fatal(err)
	}
	from, env, bad := jobs.ParseStored(m.Subject, m.Header, m.Sequence, false)
	if bad != nil {
		t.Fatalf("under %s: %v", m.Subject, bad)
	}
	if m.Subject != "dspex.anonymous.interactive" {
		t.Errorf("the subject must be dspex.anonymous.interactive, got %s", m.Subject)
	}
	if from.Kept {
		t.Error("the job must be a client's, got one that a dispatcher keeps")
	}
	if env.Job != "j1" {
		t.Errorf("the id must be j1, got %s", env.Job)
	}
	if env.ReplyTo != "dspex.reply.mine" {
		t.Errorf("the reply must go to dspex.reply.mine, got %s", env.ReplyTo)
	}
	if env.Type != jobs.JSON {
		t.Errorf("the type must be %v, got %v", jobs.JSON, env.Type)
	}
	if env.Mode != jobs.ModeQueue {
		t.Errorf("the mode must be %v, got %v", jobs.ModeQueue, env.Mode)
	}
	var body struct {
		Command string
		Args    map[string]int
		Options map[string]any
	}
	if err := json.Unmarshal(m.Data, &body); err != nil {
		t.Fatalf("%v: %s", err, m.Data)
	}
	if body.Command != "echo" {
		t.Errorf("the command must be echo, got %s", body.Command)
	}
	if body.Args["n"] != 1 {
		t.Errorf("the argument n must be 1, got %v", body.Args["n"])
	}
	if body.Options["timeout"] != 1000.0 {
		t.Errorf("the timeout must be 1000, got %v", body.Options["timeout"])
	}
	if n := kept(t, nc, stream.Anonymous); n != 1+contract.MaxTogether {
		t.Errorf("%d jobs are stored", n)
	}
}
