package contract

import (
	"fmt"
	"strings"
	"testing"
)

func TestArgumentsThatACommandDoesNotTakeAreRefused(t *testing.T) {
	onBothEngines(t, func(t *testing.T, s *service, engine string) {
		const session = "refuse_1"
		s.call(t, session, "create_program", qa()).succeeds(t)
		before := s.call(t, session, "get_session_data", nil).Result
		sig := func(signature any) m { return m{"id": "x", "signature": signature} }
		field := func(name, kind string) m {
			return sig(m{"inputs": []any{m{"name": name, "type": kind}}, "outputs": []any{m{"name": "a"}}})
		}
		for _, c := range []struct {
			command    string
			args       m
			code, path string
			options    m
		}{
			{"frobnicate", nil, "unknown_command", "command", nil},
			{"predictt", m{"question": "?"}, "unknown_command", "command", nil},
			{"create_gemini_program", nil, "unsupported_command", "command", nil},
			{"execute_gemini_program", nil, "unsupported_command", "command", nil},
			{"predict", nil, "bad_input", "args", nil},
			{"predict", m{"config": m{"api_base": "http://evil.example"}}, "bad_input", "args", nil},
			{"predict", m{"demos": []any{}}, "bad_input", "args", nil},
			{"predict", m{"_x": 1}, "bad_input", "args", nil},
			{"predict", m{"import": 1}, "bad_input", "args", nil},
			{"predict", m{"question": "?", "answer": "!"}, "bad_input", "args", nil},
			{"predict", m{"question": "?"}, "bad_option", "options.outputs", m{"outputs": []any{}}},
			{"predict", m{"question": "?"}, "bad_option", "options.outputs", m{"outputs": []any{"a", 1}}},
			{"predict", m{"question": "?"}, "bad_option", "options.outputs", m{"outputs": []any{"a", "a"}}},
			{"predict", m{"question": "?"}, "bad_option", "options.outputs", m{"outputs": []any{"a"}, "signature": "question -> a"}},
			{"predict", m{"question": "?"}, "bad_signature", "options.signature", m{"signature": "question"}},
			{"predict", m{"question": "?"}, "bad_signature", "options.signature.outputs.answer", m{"signature": "question -> answer: os.system"}},
			{"predict", m{"text": "?"}, "bad_input", "args", m{"signature": "question -> answer"}},
			{"predict", m{"question": 5}, "bad_input", "args", m{"signature": "question -> answer"}},
			{"predict", m{"question": "?", "more": 1}, "bad_input", "args", m{"signature": "question -> answer"}},
			{"create_program", nil, "bad_input", "args.id", nil},
			{"create_program", m{"id": "a b", "signature": "q -> a"}, "bad_input", "args.id", nil},
			{"create_program", m{"id": 5, "signature": "q -> a"}, "bad_input", "args.id", nil},
			{"create_program", m{"id": "x"}, "bad_input", "args.signature", nil},
			{"create_program", m{"id": "x", "signature": "q -> a", "type": "predict"}, "bad_input", "args.type", nil},
			{"create_program", m{"id": "x", "signature": "q -> a", "program_type": "flex"}, "bad_input", "args.program_type", nil},
			{"create_program", m{"id": "x", "signature": "q -> a", "session_id": "another"}, "session_mismatch", "args.session_id", nil},
			{"create_program", m{"id": "qa_bot", "signature": "q -> a"}, "program_exists", "args.id", nil},
			{"create_program", sig(5), "bad_signature", "args.signature", nil},
			{"create_program", sig("-> a"), "bad_signature", "args.signature.inputs", nil},
			{"create_program", sig("q ->"), "bad_signature", "args.signature.outputs", nil},
			{"create_program", sig(m{"inputs": []any{}, "outputs": []any{m{"name": "a"}}}), "bad_signature", "args.signature.inputs", nil},
			{"create_program", sig(m{"inputs": []any{m{"name": "q"}}}), "bad_signature", "args.signature.outputs", nil},
			{"create_program", field("a", ""), "bad_signature", "args.signature.a", nil},
			{"create_program", field("q", "subprocess.Popen"), "bad_signature", "args.signature.inputs[0].type", nil},
			{"create_program", field("q", "list[os.PathLike]"), "bad_signature", "args.signature.inputs[0].type", nil},
			{"create_program", field("model_config", ""), "bad_signature", "args.signature.inputs.model_config", nil},
			{"execute_program", nil, "bad_input", "args.program_id", nil},
			{"execute_program", m{"program_id": "qa_bot"}, "bad_input", "args.inputs", nil},
			{"execute_program", m{"program_id": "qa_bot", "inputs": []any{}}, "bad_input", "args.inputs", nil},
			{"execute_program", m{"program_id": "qa_bot", "inputs": m{}}, "bad_input", "args.inputs", nil},
			{"execute_program", m{"program_id": "qa_bot", "inputs": m{"question": 1}}, "bad_input", "args.inputs", nil},
			{"execute_program", m{"program_id": "qa_bot", "inputs": m{"question": "?", "more": 1}}, "bad_input", "args.inputs", nil},
			{"execute_program", m{"program_id": "qa_bot", "inputs": m{"question": "?"}, "input": 1}, "bad_input", "args.input", nil},
			{"execute_program", m{"program_id": "qa_bot", "inputs": m{"question": "?"}}, "bad_option", "options.module", m{"module": "react"}},
			{"set_lm", m{"model": "echo"}, "bad_option", "options.temperature", m{"temperature": 0.2}},
			{"create_program", sig("q -> a"), "bad_option", "options.lm", m{"lm": "echo"}},
			{"ping", nil, "bad_option", "options.lm", m{"lm": "echo", "temperature": 0}},
			{"get_program_info", m{}, "bad_input", "args.program_id", nil},
			{"delete_program", m{"program_id": []any{1}}, "bad_input", "args.program_id", nil},
			{"list_programs", m{"all": true}, "bad_input", "args.all", nil},
			{"list_programs", m{"session_id": "another"}, "session_mismatch", "args.session_id", nil},
			{"set_lm", m{}, "bad_input", "args.model", nil},
			{"set_lm", m{"model": 5}, "bad_input", "args.model", nil},
			{"set_lm", m{"model": "echo", "temperature": 3}, "bad_input", "args.temperature", nil},
			{"set_lm", m{"model": "echo", "temperature": "hot"}, "bad_input", "args.temperature", nil},
			{"set_lm", m{"model": "echo", "max_tokens": 0}, "bad_input", "args.max_tokens", nil},
			{"set_lm", m{"model": "echo", "max_tokens": 1.5}, "bad_input", "args.max_tokens", nil},
			{"set_lm", m{"model": "echo", "provider": 1}, "bad_input", "args.provider", nil},
			{"set_lm", m{"model": "echo", "api_base": "http://evil.example"}, "bad_input", "args.api_base", nil},
			{"set_lm", m{"model": "echo", "api_key": "sk-1234567890"}, "secret_in_request", "args.api_key", nil},
			{"set_lm", m{"model": "echo", "api_key": "env:HOME"}, "secret_in_request", "args.api_key", nil},
			{"update_session_data", m{"operation": "drop", "key": "k"}, "bad_input", "args.operation", nil},
			{"update_session_data", m{"operation": "set", "value": 1}, "bad_input", "args.key", nil},
			{"update_session_data", m{"operation": "set", "key": "k"}, "bad_input", "args.value", nil},
			{"update_session_data", m{"operation": "merge", "value": 1}, "bad_input", "args.value", nil},
			{"get_stats", m{"verbose": true}, "bad_input", "args.verbose", nil},
			{"cleanup", m{"all": true}, "bad_input", "args.all", nil},
			{"reset_state", m{"all": true}, "bad_input", "args.all", nil},
			{"cleanup_session", m{"session_id": "another"}, "session_mismatch", "args.session_id", nil},
			{"shutdown", m{"now": true}, "bad_input", "args.now", nil},
		} {
			t.Run(short(c.command+" "+string(text(c.args))), func(t *testing.T) {
				ask := body(c.command, c.args)
				if c.options != nil {
					ask["options"] = c.options
				}
				r := s.request(t, "dspex.rpc.session."+session, text(ask))
				category := "python"
				if c.code == "session_mismatch" {
					category = "session"
				}
				r.refused(t, category, c.code, c.path)
				if strings.Contains(string(text(r.Error)), "sk-1234567890") {
					t.Error("the refusal repeats the key")
				}
			})
		}
		if after := s.call(t, session, "get_session_data", nil).Result; fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("the session was %v, and is %v", before, after)
		}
		is(t, shaped(t, s.call(t, session, "list_programs", nil), "programs", "total_count"), m{"total_count": 1})
	})
}
