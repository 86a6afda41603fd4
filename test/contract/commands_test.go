package contract

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// onBothEngines runs a test on the stub and on real DSPy: shapes do not depend on the engine.
func onBothEngines(t *testing.T, test func(t *testing.T, s *service, engine string)) {
	t.Run("stub", func(t *testing.T) { test(t, stub, "stub") })
	t.Run("dspy", func(t *testing.T) {
		s, err := dspy()
		if err != nil {
			t.Fatal(err)
		}
		test(t, s, "dspy 3.4.1")
	})
}

// shaped checks that a result has exactly these keys and returns it.
func shaped(t *testing.T, r reply, keys ...string) m {
	t.Helper()
	r.succeeds(t)
	got, ok := r.Result.(m)
	slices.Sort(keys)
	if !ok || !slices.Equal(slices.Sorted(maps.Keys(got)), keys) {
		t.Fatalf("the result is %v, want the keys %v", r.Result, keys)
	}
	return got
}

func is(t *testing.T, got m, want m) {
	t.Helper()
	for key, value := range want {
		if fmt.Sprint(got[key]) != fmt.Sprint(value) {
			t.Errorf("%s is %v, want %v", key, got[key], value)
		}
	}
}

func isTime(t *testing.T, v any) {
	t.Helper()
	if _, err := time.Parse(time.RFC3339, fmt.Sprint(v)); err != nil {
		t.Errorf("%v is no time: %v", v, err)
	}
}

func isNumber(t *testing.T, v any, least float64) float64 {
	t.Helper()
	n, ok := v.(json.Number)
	f, err := n.Float64()
	if !ok || err != nil || f < least {
		t.Errorf("%v is no number of at least %v", v, least)
	}
	return f
}

// qa is the program of docs/migration.md, "Commands".
func qa() m {
	return m{"id": "qa_bot", "signature": m{"name": "QuestionAnswer", "inputs": []any{m{"name": "question", "type": "string"}}, "outputs": []any{m{"name": "answer", "type": "string"}}}}
}

func TestPing(t *testing.T) {
	onBothEngines(t, func(t *testing.T, s *service, engine string) {
		for _, session := range []string{"ping_1", ""} {
			r := s.call(t, session, "ping", m{"any": "thing"})
			got := shaped(t, r, "status", "timestamp", "dspy_available", "gemini_available", "uptime", "mode", "worker_id", "current_session")
			is(t, got, m{"status": "ok", "dspy_available": engine != "stub", "gemini_available": false, "mode": "pool-worker"})
			isTime(t, got["timestamp"])
			isNumber(t, got["uptime"], 0)
			if current, _ := got["current_session"].(string); current != session || r.Engine != engine {
				t.Errorf("session %v, engine %s", got["current_session"], r.Engine)
			}
			var worker string
			if session != "" {
				worker = r.Session.Worker
			} else {
				worker = r.RanOn.Worker
			}
			if worker != got["worker_id"] {
				t.Errorf("worker: got %s, want %v", worker, got["worker_id"])
			}
		}
	})
}

// TestPredictTakesTheManualsExamplesAsTheyStand sends every argument map that the original documents
// (docs/migration.md, "Calls").
func TestPredictTakesTheManualsExamplesAsTheyStand(t *testing.T) {
	onBothEngines(t, func(t *testing.T, s *service, engine string) {
		for _, args := range []m{
			{"question": "What is the capital of France?"},
			{"text": "Classify this sentiment: I love this product!"},
			{"text": "I love this product!", "task": "classify_sentiment", "options": []any{"positive", "negative", "neutral"}},
			{"text": "Hello world", "source_language": "English", "target_language": "French"},
			{"text": "Long text to summarize...", "max_length": 50, "style": "concise"},
		} {
			for _, session := range []string{"", "predict_1"} {
				r := s.call(t, session, "predict", args)
				got := shaped(t, r, "answer")
				if answer, _ := got["answer"].(string); answer == "" || len(r.Usage) != 1 {
					t.Errorf("%v: %v, usage %v", args, got, r.Usage)
				}
			}
		}
	})
}

func TestAConversationRemembersItsTurns(t *testing.T) {
	onBothEngines(t, func(t *testing.T, s *service, engine string) {
		tokens := 0.0
		for turn, text := range []string{"Hello, I'm starting a conversation", "Can you remember what I just said?", "Now summarize our entire conversation"} {
			r := s.call(t, "talk_1", "predict", m{"text": text})
			shaped(t, r, "answer")
			for _, usage := range r.Usage { // each prompt holds the turns before it
				now := isNumber(t, usage.(m)["prompt_tokens"], 1)
				if now <= tokens {
					t.Errorf("turn %d: a prompt of %v tokens after one of %v", turn+1, now, tokens)
				}
				tokens = now
			}
		}
	})
}

func TestTheLifeOfAProgram(t *testing.T) {
	onBothEngines(t, func(t *testing.T, s *service, engine string) {
		const session = "programs_1"
		if r := s.call(t, session, "create_program", qa()); r.Result != "qa_bot" {
			t.Fatalf("the result is the id: %v %v", r.Result, r.Error)
		}
		if r := s.call(t, session, "create_program", qa()); r.Result != "qa_bot" {
			t.Errorf("the same program again: %+v", r.Error)
		}
		got := shaped(t, s.call(t, session, "execute_program", m{"program_id": "qa_bot", "inputs": m{"question": "What is machine learning?"}}), "program_id", "outputs", "execution_time")
		is(t, got, m{"program_id": "qa_bot"})
		isNumber(t, got["execution_time"], 0)
		if outputs := got["outputs"].(m); len(outputs) != 1 || !strings.Contains(outputs["answer"].(string), "machine learning") {
			t.Errorf("outputs %v", outputs)
		}
		got = shaped(t, s.call(t, session, "list_programs", m{"session_id": session}), "programs", "total_count")
		programs := got["programs"].([]any)
		is(t, got, m{"total_count": 1})
		if len(programs) != 1 {
			t.Fatalf("programs %v", programs)
		}
		entry := programs[0].(m)
		is(t, entry, m{"id": "qa_bot", "execution_count": 1, "session_id": session})
		for _, key := range []string{"created_at", "last_executed"} {
			isTime(t, entry[key])
		}
		if entry["signature"].(m)["name"] != "QuestionAnswer" {
			t.Errorf("signature %v", entry["signature"])
		}
		got = shaped(t, s.call(t, session, "get_program_info", m{"program_id": "qa_bot"}),
			"program_id", "program_type", "signature", "field_mapping", "created_at", "execution_count", "last_executed", "extra")
		is(t, got, m{"program_id": "qa_bot", "program_type": "predict", "execution_count": 1, "field_mapping": m{"question": "question", "answer": "answer"}})
		got = shaped(t, s.call(t, session, "delete_program", m{"program_id": "qa_bot"}), "program_id", "status")
		is(t, got, m{"program_id": "qa_bot", "status": "deleted"})
		s.call(t, session, "execute_program", m{"program_id": "qa_bot", "inputs": m{"question": "?"}}).refused(t, "session", "program_unknown", "args.program_id")
		is(t, shaped(t, s.call(t, session, "list_programs", nil), "programs", "total_count"), m{"total_count": 0})
	})
}

func TestEachProgramTypeRuns(t *testing.T) {
	onBothEngines(t, func(t *testing.T, s *service, engine string) {
		for kind, outputs := range map[string][]string{"predict": {"answer", "score"}, "chain_of_thought": {"answer", "reasoning", "score"}, "react": {"answer", "score"}} {
			id := s.call(t, "programs_2", "create_program", m{"id": kind, "program_type": kind, "signature": "question -> answer, score: float"})
			id.succeeds(t)
			r := s.call(t, "programs_2", "execute_program", m{"program_id": id.Result, "inputs": m{"question": "How far?"}})
			r.succeeds(t)
			got := r.Result.(m)["outputs"].(m)
			for _, name := range outputs {
				if _, ok := got[name]; !ok {
					t.Errorf("%s: outputs %v, want %v", kind, got, outputs)
				}
			}
			isNumber(t, got["score"], 0)
		}
	})
}

func TestSessionsDoNotMix(t *testing.T) {
	onBothEngines(t, func(t *testing.T, s *service, engine string) {
		s.call(t, "mix_1", "create_program", m{"id": "p", "signature": "question -> answer"}).succeeds(t)
		s.call(t, "mix_2", "create_program", m{"id": "p", "signature": "text -> mood: Literal['good','bad']"}).succeeds(t)
		for range 3 {
			one := s.call(t, "mix_1", "execute_program", m{"program_id": "p", "inputs": m{"question": "?"}})
			two := s.call(t, "mix_2", "execute_program", m{"program_id": "p", "inputs": m{"text": "x"}})
			if a, b := one.Result.(m)["outputs"].(m), two.Result.(m)["outputs"].(m); a["answer"] == nil || b["mood"] == nil {
				t.Errorf("%v %v", a, b)
			}
		}
		s.call(t, "mix_3", "execute_program", m{"program_id": "p", "inputs": m{"question": "?"}}).refused(t, "session", "program_unknown", "args.program_id")
	})
}

func TestSetLM(t *testing.T) {
	onBothEngines(t, func(t *testing.T, s *service, engine string) {
		for _, command := range []string{"set_lm", "configure_lm"} {
			got := shaped(t, s.call(t, "lm_1", command, m{"model": "echo"}), "status", "model", "provider", "temperature")
			is(t, got, m{"status": "configured", "model": "echo", "provider": "openai_compatible", "temperature": 0.7})
			got = shaped(t, s.call(t, "lm_1", command, m{"model": "echo", "temperature": 0.2, "max_tokens": 50, "session_id": "lm_1"}), "status", "model", "provider", "temperature")
			is(t, got, m{"temperature": 0.2})
		}
		s.call(t, "lm_1", "predict", m{"question": "?"}).succeeds(t)
		r := s.call(t, "lm_1", "set_lm", m{"model": "gpt-4o-mini"})
		r.fails(t, "python", "lm_not_configured")
		if !strings.Contains(r.Error.Message, "OPENAI_API_KEY") || r.Error.Hint == "" {
			t.Errorf("%+v", r.Error)
		}
		s.call(t, "lm_1", "set_lm", m{"model": "mystery"}).refused(t, "python", "lm_unknown", "args.model")
		s.call(t, "lm_1", "set_lm", m{"model": "m", "provider": "acme"}).refused(t, "python", "lm_unknown", "args.model")
		s.call(t, "lm_1", "predict", m{"question": "?"}).succeeds(t)
	})
}

func TestStatisticsOfAWorker(t *testing.T) {
	onBothEngines(t, func(t *testing.T, s *service, engine string) {
		s.call(t, "stats_1", "create_program", m{"id": "p", "signature": "question -> answer"}).succeeds(t)
		got := shaped(t, s.call(t, "stats_1", "get_stats", nil), "programs_count", "command_count", "error_count", "uptime", "memory_usage", "dspy_available", "gemini_available")
		is(t, got, m{"programs_count": 1, "dspy_available": engine != "stub", "gemini_available": false})
		isNumber(t, got["command_count"], 1)
		isNumber(t, got["error_count"], 0)
		isNumber(t, got["uptime"], 0)
		memory := got["memory_usage"].(m)
		for _, key := range []string{"rss", "vms", "percent"} {
			isNumber(t, memory[key], 0)
		}
		if len(memory) != 3 {
			t.Errorf("memory %v", memory)
		}
	})
}

func TestSessionDataAndItsEnd(t *testing.T) {
	onBothEngines(t, func(t *testing.T, s *service, engine string) {
		const session = "data_1"
		update := func(args m) m {
			t.Helper()
			return shaped(t, s.call(t, session, "update_session_data", args), "session_id", "status", "revision")
		}
		first := update(m{"operation": "set", "key": "name", "value": "Ada"})
		is(t, first, m{"session_id": session, "status": "updated"})
		second := update(m{"session_id": session, "operation": "merge", "value": m{"age": 36}})
		if isNumber(t, second["revision"], 1) <= isNumber(t, first["revision"], 1) {
			t.Errorf("revisions %v, %v", first, second)
		}
		got := shaped(t, s.call(t, session, "get_session_data", m{"session_id": session}), "session_id", "data", "revision")
		is(t, got, m{"session_id": session, "data": m{"name": "Ada", "age": 36}, "revision": second["revision"]})

		s.call(t, session, "create_program", m{"id": "p", "signature": "question -> answer"}).succeeds(t)
		is(t, shaped(t, s.call(t, session, "cleanup", nil), "status", "programs_removed"), m{"status": "cleaned", "programs_removed": 1})
		is(t, shaped(t, s.call(t, session, "get_session_data", nil), "session_id", "data", "revision"), m{"data": m{"name": "Ada", "age": 36}})

		s.call(t, session, "create_program", m{"id": "p", "signature": "question -> answer"}).succeeds(t)
		got = shaped(t, s.call(t, session, "reset_state", nil), "status", "programs_cleared", "commands_reset", "errors_reset")
		is(t, got, m{"status": "reset", "programs_cleared": 1})
		is(t, shaped(t, s.call(t, session, "get_session_data", nil), "session_id", "data", "revision"), m{"data": m{}})

		s.call(t, session, "create_program", m{"id": "p", "signature": "question -> answer"}).succeeds(t)
		got = shaped(t, s.call(t, session, "cleanup_session", m{"session_id": session}), "status", "session_id", "programs_removed")
		is(t, got, m{"status": "cleaned", "session_id": session, "programs_removed": 1})
		r := s.call(t, session, "cleanup_session", m{"session_id": session})
		is(t, shaped(t, r, "status", "session_id", "programs_removed"), m{"programs_removed": 0})
		if r.Session.State != "none" {
			t.Errorf("after its clean-up the session is %s", r.Session.State)
		}
		s.call(t, session, "get_program_info", m{"program_id": "p"}).refused(t, "session", "program_unknown", "args.program_id")
	})
}

func TestShutdownEndsAWorkerAndAnotherOneComes(t *testing.T) {
	onBothEngines(t, func(t *testing.T, s *service, engine string) {
		s.call(t, "down_1", "update_session_data", m{"operation": "set", "key": "k", "value": "kept"}).succeeds(t)
		got := shaped(t, s.call(t, "down_1", "shutdown", nil), "status", "worker_id", "mode", "sessions_cleaned")
		is(t, got, m{"status": "shutting_down", "mode": "pool-worker"})
		isNumber(t, got["sessions_cleaned"], 1)
		r := s.later(t, "down_1", "get_session_data", nil)
		is(t, shaped(t, r, "session_id", "data", "revision"), m{"data": m{"k": "kept"}})
		if r.Session.State != "restored" {
			t.Errorf("the state is %s", r.Session.State)
		}
		s.call(t, "down_1", "shutdown", m{"worker_id": "nobody/9"}).refused(t, "python", "bad_input", "args.worker_id")
	})
}

// TestAnAnonymousProgram: create_program and execute_program without a session (docs/migration.md, "Calls").
func TestAnAnonymousProgram(t *testing.T) {
	onBothEngines(t, func(t *testing.T, s *service, engine string) {
		ids := map[string]bool{}
		for range 2 {
			id, _ := s.call(t, "", "create_program", qa()).Result.(string)
			if len(id) < 32 || ids[id] {
				t.Fatalf("the id %q can be guessed", id)
			}
			ids[id] = true
			for range 2 {
				got := shaped(t, s.call(t, "", "execute_program", m{"program_id": id, "inputs": m{"question": "What is the capital of France?"}}), "program_id", "outputs", "execution_time")
				is(t, got, m{"program_id": id})
				session := s.call(t, "", "predict", m{"question": "What is the capital of France?"})
				is(t, got["outputs"].(m), m{"answer": session.Result.(m)["answer"]})
			}
			is(t, s.call(t, "", "get_program_info", m{"program_id": id}).Result.(m), m{"program_id": id, "program_type": "predict"})
			s.call(t, "", "execute_program", m{"program_id": id, "inputs": m{}}).refused(t, "python", "bad_input", "args.inputs")
			s.call(t, "anon_1", "execute_program", m{"program_id": id, "inputs": m{"question": "?"}}).refused(t, "session", "program_unknown", "args.program_id")
		}
		s.call(t, "", "shutdown", nil).succeeds(t) // other workers have it too
		for id := range ids {
			s.later(t, "", "execute_program", m{"program_id": id, "inputs": m{"question": "?"}}).succeeds(t)
		}
		for _, id := range []string{"qa_bot", "anon-00000000000000000000000000000000", "anon-x", "anon-0000000000000000000000000000000*"} {
			s.call(t, "", "execute_program", m{"program_id": id, "inputs": m{"question": "?"}}).refused(t, "session", "program_unknown", "args.program_id")
		}
		s.call(t, "", "create_program", m{"id": "a b", "signature": "q -> a"}).refused(t, "python", "bad_input", "args.id")
		s.call(t, "", "create_program", m{"id": "x", "signature": "q"}).refused(t, "python", "bad_signature", "args.signature")
		if r := s.call(t, "", "list_programs", nil); len(r.Result.(m)["programs"].([]any)) != 0 {
			t.Errorf("anonymous programs are listed: %v", r.Result)
		}
	})
}

func TestCommandsAboutStateNeedASession(t *testing.T) {
	onBothEngines(t, func(t *testing.T, s *service, engine string) {
		for command, args := range map[string]m{
			"get_session_data": nil, "update_session_data": {"operation": "delete", "key": "k"}, "cleanup_session": nil, "delete_program": {"program_id": "p"},
		} {
			r := s.call(t, "", command, args)
			r.fails(t, "session", "session_required")
			if r.Error.Hint == "" || *r.Error.Retryable {
				t.Errorf("%s: %+v", command, r.Error)
			}
		}
	})
}

// TestACallReachesTheSessionThatItsArgumentsName: every command with session_id, on the subject without a session.
func TestACallReachesTheSessionThatItsArgumentsName(t *testing.T) {
	onBothEngines(t, func(t *testing.T, s *service, engine string) {
		session := "named_" + engine[:4]
		call := func(command string, args m) reply {
			t.Helper()
			args["session_id"] = session
			r := s.call(t, "", command, args)
			if r.Session.ID != session {
				t.Errorf("%s ran in %q: %+v", command, r.Session.ID, r.Error)
			}
			return r
		}
		is(t, call("update_session_data", m{"operation": "set", "key": "name", "value": "Ada"}).Result.(m), m{"session_id": session, "status": "updated"})
		is(t, s.call(t, session, "get_session_data", nil).Result.(m), m{"data": m{"name": "Ada"}})
		is(t, call("get_session_data", m{}).Result.(m), m{"session_id": session, "data": m{"name": "Ada"}})
		if id := call("create_program", qa()).Result; id != "qa_bot" {
			t.Errorf("create_program answers %v", id)
		}
		is(t, s.call(t, session, "list_programs", nil).Result.(m), m{"total_count": 1})
		is(t, call("list_programs", m{}).Result.(m), m{"total_count": 1})
		is(t, call("get_program_info", m{"program_id": "qa_bot"}).Result.(m), m{"program_id": "qa_bot", "execution_count": 0})
		call("execute_program", m{"program_id": "qa_bot", "inputs": m{"question": "Why?"}}).succeeds(t)
		is(t, s.call(t, session, "get_program_info", m{"program_id": "qa_bot"}).Result.(m), m{"execution_count": 1})
		call("set_lm", m{"model": "echo", "temperature": 0.1}).succeeds(t)
		call("configure_lm", m{"model": "echo", "temperature": 0.1}).succeeds(t)
		is(t, call("delete_program", m{"program_id": "qa_bot"}).Result.(m), m{"status": "deleted"})
		call("cleanup", m{}).succeeds(t)
		is(t, call("cleanup_session", m{}).Result.(m), m{"status": "cleaned", "session_id": session})
		is(t, s.call(t, session, "get_session_data", nil).Result.(m), m{"data": m{}})
		call("import_session", m{"document": m{"schema": 1, "state": nil}}).succeeds(t)
		call("reset_state", m{}).succeeds(t)
		is(t, call("erase_session", m{}).Result.(m), m{"status": "erased", "session_id": session})

		s.call(t, "", "cleanup_session", m{"session_id": "a b"}).refused(t, "session", "bad_session_id", "args.session_id")
		s.call(t, "", "cleanup_session", m{"session_id": 5}).refused(t, "python", "bad_input", "args.session_id")
		s.call(t, "", "cleanup_session", m{"session_id": nil}).fails(t, "session", "session_required")
	})
}
