"""Every command, in the shapes of docs/migration.md, "Commands"."""

from __future__ import annotations

from typing import Any

import pytest

from tests.client import WorkerProcess

QA_BOT = {
    "id": "qa_bot",
    "signature": {
        "name": "QuestionAnswer",
        "inputs": [{"name": "question", "type": "string"}],
        "outputs": [{"name": "answer", "type": "string"}],
    },
}
TYPED = "text, options: list[str], n: int -> label: Literal['good', 'bad'], score: float, count: int, ok: bool, tags: list[str], more: dict[str, int], maybe: Optional[str], any: any"


def test_ping(worker: WorkerProcess, session: str) -> None:
    value = worker.value("ping", {"anything": [1, 2]}, session=session)
    assert value["timestamp"].endswith("Z")
    assert value["uptime"] >= 0
    assert {key: value[key] for key in value if key not in ("timestamp", "uptime")} == {
        "status": "ok",
        "dspy_available": False,
        "gemini_available": False,
        "mode": "pool-worker",
        "worker_id": "host/1",
        "current_session": session,
    }


def test_get_stats(worker: WorkerProcess, session: str) -> None:
    worker.value("create_program", QA_BOT, session=session)
    before = worker.value("get_stats", session=session)
    worker.failure("nonsense")
    after = worker.value("get_stats", session=session)
    assert set(after) == {
        "programs_count", "command_count", "error_count", "uptime", "memory_usage", "dspy_available", "gemini_available",
    }  # fmt: skip
    assert after["programs_count"] == 2  # its own, and the one of the sample module
    assert after["command_count"] - before["command_count"] == 2
    assert after["error_count"] - before["error_count"] == 1
    assert set(after["memory_usage"]) == {"rss", "vms", "percent"}
    assert 0 < after["memory_usage"]["rss"] <= after["memory_usage"]["vms"]


def test_predict_answers_a_bare_map_of_outputs(worker: WorkerProcess) -> None:
    result = worker.call("predict", {"question": "What is the capital of France?"})
    assert result.value == {"answer": "[stub] What is the capital of France?"}
    assert result.state is None
    assert result.meta["engine"] == "stub"
    assert result.meta["run_ms"] >= 0
    assert result.meta["usage"] == {"stub": {"prompt_tokens": 7, "completion_tokens": 8, "total_tokens": 15}}


@pytest.mark.parametrize(
    "args",
    [
        {"text": "I love this product!", "task": "classify_sentiment", "options": ["positive", "negative", "neutral"]},
        {"text": "Hello world", "source_language": "English", "target_language": "French"},
        {"text": "Long text to summarize...", "max_length": 50, "style": "concise"},
        {"text": "x", "ratio": 0.5, "flag": True, "nothing": None, "map": {"a": 1}},
    ],
)
def test_predict_takes_the_manuals_free_maps(worker: WorkerProcess, args: dict[str, Any]) -> None:
    assert set(worker.value("predict", args)) == {"answer"}


def test_predict_with_outputs_module_and_signature(worker: WorkerProcess) -> None:
    assert worker.value("predict", {"text": "t"}, options={"outputs": ["title", "body"]}) == {"title": "[stub] t", "body": "[stub] t"}
    thought = worker.value("predict", {"text": "t"}, options={"module": "chain_of_thought"})
    assert thought == {"reasoning": "[stub] thought about t", "answer": "[stub] t"}
    typed = worker.value("predict", {"text": "abcd", "options": ["a"], "n": 3}, options={"signature": TYPED})
    assert typed == {
        "label": "good",
        "score": 2.0,
        "count": 4,
        "ok": True,
        "tags": ["[stub] abcd"],
        "more": {"stub": 4},
        "maybe": "[stub] abcd",
        "any": "[stub] abcd",
    }
    as_map = worker.value("predict", {"question": "q"}, options={"signature": QA_BOT["signature"]})
    assert as_map == {"answer": "[stub] q"}


@pytest.mark.parametrize(
    ("args", "options", "code", "part"),
    [
        ({}, {"signature": "question -> answer"}, "bad_input", "missing input 'question'"),
        ({"question": 1}, {"signature": "question -> answer"}, "bad_input", "must be string"),
        ({"question": "q", "more": 1}, {"signature": "question -> answer"}, "bad_input", "unknown input 'more'"),
        ({"question": "q"}, {"signature": "question -> answer: os.system"}, "bad_signature", "unknown type"),
        ({"question": "q"}, {"signature": 3}, "bad_signature", "must be a string or a map"),
        ({"question": "q"}, {"signature": "question -> a", "outputs": ["a"]}, "bad_option", "no effect"),
        ({"question": "q"}, {"module": "program_of_thought"}, "bad_option", "predict, chain_of_thought, react"),
        ({"question": "q"}, {"outputs": "answer"}, "bad_option", "list of names"),
        ({"question": "q"}, {"outputs": ["not a name"]}, "bad_option", "cannot be the name"),
        ({"question": "q"}, {"temperature": 3}, "bad_option", "0 to 2"),
        ({"question": "q"}, {"stream": "yes"}, "bad_option", "true or false"),
        ({"config": {"api_base": "x"}}, {}, "bad_input", "reserved"),
        ({"question": "q", "Answer": "a"}, {}, "bad_input", "options.outputs"),
        ({}, {}, "bad_input", "at least one"),
    ],
)
def test_predict_refuses_before_the_engine_runs(
    worker: WorkerProcess, args: dict[str, Any], options: dict[str, Any], code: str, part: str
) -> None:
    error = worker.failure("predict", args, options=options)
    assert (error.category, error.code, error.detail["retryable"]) == ("python", code, False)
    assert part in f"{error.message}: {error.detail['expected']}"
    assert error.detail["path"].startswith("args" if code == "bad_input" else "options.")


def test_predict_streams_when_asked(worker: WorkerProcess) -> None:
    result = worker.call("predict", {"question": "a longer question"}, options={"stream": True})
    assert [chunk[0] for chunk in result.chunks] == list(range(len(result.chunks)))
    assert len(result.chunks) > 2
    assert {chunk[1] for chunk in result.chunks} == {"answer"}
    assert "".join(chunk[2] for chunk in result.chunks) == result.value["answer"]


def test_the_manuals_program(worker: WorkerProcess, session: str) -> None:
    program_id = worker.value("create_program", QA_BOT, session=session)
    assert program_id == "qa_bot"
    result = worker.value(
        "execute_program", {"program_id": program_id, "inputs": {"question": "What is machine learning?"}}, session=session
    )
    assert set(result) == {"program_id", "outputs", "execution_time"}
    assert result["program_id"] == "qa_bot"
    assert result["outputs"] == {"answer": "[stub] What is machine learning?"}
    assert 0 <= result["execution_time"] < 60
    for spelled in ({"program_id": "qa_bot"}, {"id": "qa_bot"}):
        assert worker.value("execute_program", {"program_id": spelled, "inputs": {"question": "q"}}, session=session)


def test_create_program_twice(worker: WorkerProcess, session: str) -> None:
    worker.value("create_program", QA_BOT, session=session)
    again = worker.call("create_program", QA_BOT, session=session)
    assert again.value == "qa_bot"
    assert again.state is None
    for other in (
        {**QA_BOT, "program_type": "chain_of_thought"},
        {"id": "qa_bot", "signature": "a -> b"},
        {"id": "shout", "signature": "a -> b"},
    ):
        error = worker.failure("create_program", other, session=session)
        assert (error.code, error.detail["retryable"]) == ("program_exists", False)
        assert "delete_program" in error.detail["hint"]


@pytest.mark.parametrize(
    ("change", "code", "part"),
    [
        ({"id": None}, "bad_input", "id must be a str"),
        ({"id": "with space"}, "bad_input", "the id is not allowed"),
        ({"signature": "question"}, "bad_signature", "->"),
        ({"program_type": "flex"}, "bad_input", "predict, chain_of_thought, react"),
        ({"singature": {}}, "bad_input", "unknown arguments: singature"),
    ],
)
def test_create_program_refuses(worker: WorkerProcess, session: str, change: dict[str, Any], code: str, part: str) -> None:
    error = worker.failure("create_program", {**QA_BOT, **change}, session=session)
    assert (error.category, error.code) == ("python", code)
    assert part in f"{error.message}: {error.detail['expected']}"
    assert error.detail["path"].startswith(f"args.{next(iter(change))}")


def test_execute_program_refuses(worker: WorkerProcess, session: str) -> None:
    worker.value("create_program", QA_BOT, session=session)
    missing = worker.failure("execute_program", {"program_id": "qa_bot", "inputs": {}}, session=session)
    assert missing.code == "bad_input"
    assert "question" in missing.message
    unknown = worker.failure("execute_program", {"program_id": "qa_bott", "inputs": {}}, session=session)
    assert (unknown.category, unknown.code, unknown.detail["retryable"]) == ("session", "program_unknown", False)
    assert "qa_bot" in unknown.detail["expected"]
    assert worker.failure("execute_program", {"program_id": "qa_bot"}, session=session).code == "bad_input"
    assert worker.failure("execute_program", {"program_id": 7, "inputs": {}}, session=session).code == "bad_input"


def test_list_info_and_delete(worker: WorkerProcess, session: str) -> None:
    worker.value("create_program", QA_BOT, session=session)
    worker.value("execute_program", {"program_id": "qa_bot", "inputs": {"question": "q"}}, session=session)
    listed = worker.value("list_programs", {"session_id": session}, session=session)
    assert listed["total_count"] == 2
    own, imported = listed["programs"]
    assert (own["id"], own["extra"]["kind"], own["execution_count"], own["session_id"]) == ("qa_bot", "session", 1, session)
    assert own["signature"]["name"] == "QuestionAnswer"
    assert own["created_at"] <= own["last_executed"]
    assert (imported["id"], imported["extra"]["kind"], imported["signature"]["inputs"][0]["name"]) == ("shout", "imported", "text")

    info = worker.value("get_program_info", {"program_id": "qa_bot"}, session=session)
    assert (info["program_id"], info["program_type"], info["execution_count"]) == ("qa_bot", "predict", 1)
    assert info["field_mapping"] == {"question": "question", "answer": "answer"}
    assert info["last_executed"] == own["last_executed"]

    assert worker.value("delete_program", {"program_id": "qa_bot"}, session=session) == {"program_id": "qa_bot", "status": "deleted"}
    for command in ("delete_program", "get_program_info"):
        assert worker.failure(command, {"program_id": "qa_bot"}, session=session).code == "program_unknown"
    assert worker.failure("delete_program", {"program_id": "shout"}, session=session).code == "bad_input"


@pytest.mark.parametrize("command", ["set_lm", "configure_lm"])
def test_set_lm(worker: WorkerProcess, session: str, command: str) -> None:
    result = worker.call(command, {"model": "gemini-1.5-flash"}, session=session)
    assert result.value == {"status": "configured", "model": "gemini-1.5-flash", "provider": "gemini", "temperature": 0.7}
    assert result.meta["lm_choice"] == {"model": "gemini-1.5-flash", "temperature": 0.7}
    full = {"model": "fast", "provider": "openai", "temperature": 1, "max_tokens": 100}
    result = worker.call(command, full, session=session)
    assert result.value == {"status": "configured", "model": "fast", "provider": "openai", "temperature": 1.0}
    assert result.meta["lm_choice"] == full
    assert worker.call("ping", session=session).meta["lm_choice"] == full
    assert "lm_choice" not in worker.call("ping", session="another").meta
    cleared = worker.call("reset_state", session=session)
    assert cleared.meta["lm_choice"] is None


def test_set_lm_without_a_session_chooses_for_all(worker: WorkerProcess) -> None:
    result = worker.call("set_lm", {"model": "fast"})
    assert result.value == {"status": "configured", "model": "fast", "provider": None, "temperature": 0.7}
    assert result.meta["lm_choice"] == {"model": "fast", "temperature": 0.7}
    assert "lm_choice" not in worker.call("ping").meta


@pytest.mark.parametrize(
    ("model", "temperature"), [("o3-mini", None), ("openai/gpt-5-nano", None), ("gpt-5-chat-latest", 0.7), ("gpt-4o", 0.7)]
)
def test_set_lm_asks_no_reasoning_model_for_a_temperature(
    worker: WorkerProcess, session: str, model: str, temperature: float | None
) -> None:
    assert worker.value("set_lm", {"model": model}, session=session)["temperature"] == temperature
    assert worker.value("set_lm", {"model": model, "temperature": 1}, session=session)["temperature"] == 1.0


def test_set_lm_keeps_the_reference_to_a_key_for_the_host_to_judge(worker: WorkerProcess, session: str) -> None:
    result = worker.call("set_lm", {"model": "fast", "api_key": "env:SOME_KEY"}, session=session)
    assert result.meta["lm_choice"] == {"model": "fast", "temperature": 0.7, "api_key": "env:SOME_KEY"}


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ({"model": "m", "temperature": 2.5}, "bad_input"),
        ({"model": "m", "max_tokens": 0}, "bad_input"),
        ({"temperature": 1}, "bad_input"),
        ({"model": "m", "api_base": "http://evil"}, "bad_input"),
        ({"model": "m", "api_key": "env:" + "A" * 1024}, "bad_input"),
    ],
)
def test_set_lm_refuses(worker: WorkerProcess, session: str, args: dict[str, Any], code: str) -> None:
    assert worker.failure("set_lm", args, session=session).code == code


def test_set_lm_refuses_a_key_and_does_not_repeat_it(worker: WorkerProcess, session: str) -> None:
    error = worker.failure("set_lm", {"model": "gemini-1.5-flash", "api_key": "AIza-very-secret"}, session=session)
    assert (error.category, error.code) == ("python", "secret_in_request")
    assert "AIza" not in repr((error.message, error.detail))
    assert "profile" in error.detail["hint"]


def test_session_data(worker: WorkerProcess, session: str) -> None:
    def update(**args: Any) -> Any:
        return worker.value("update_session_data", {"session_id": session, **args}, session=session)

    assert worker.value("get_session_data", {"session_id": session}, session=session) == {"session_id": session, "data": {}, "revision": 0}
    assert update(operation="set", key="user", value={"name": "Ada"}) == {"session_id": session, "status": "updated", "revision": 1}
    update(operation="merge", key="user", value={"age": 36})
    update(operation="merge", value={"seen": [1, 2]})
    update(operation="set", key="gone", value=None)
    update(operation="delete", key="gone")
    assert worker.value("get_session_data", session=session) == {
        "session_id": session,
        "data": {"user": {"name": "Ada", "age": 36}, "seen": [1, 2]},
        "revision": 5,
    }
    for bad in (
        {"operation": "pop", "key": "user"},
        {"operation": "set", "key": "user"},
        {"operation": "merge", "key": "seen", "value": {}},
        {"operation": "merge", "key": "user", "value": 1},
        {"operation": "delete"},
    ):
        assert worker.failure("update_session_data", bad, session=session).code == "bad_input"


def test_cleanup_reset_and_cleanup_session(worker: WorkerProcess, session: str) -> None:
    def fill() -> None:
        worker.value("create_program", QA_BOT, session=session)
        worker.value("update_session_data", {"operation": "set", "key": "k", "value": 1}, session=session)

    fill()
    assert worker.value("cleanup", session=session) == {"status": "cleaned", "programs_removed": 1}
    assert worker.value("get_session_data", session=session)["data"] == {"k": 1}
    fill()
    cleaned = worker.value("cleanup_session", {"session_id": session}, session=session)
    assert cleaned == {"status": "cleaned", "session_id": session, "programs_removed": 1}
    assert worker.value("get_session_data", session=session)["data"] == {}
    assert worker.value("cleanup_session", {"session_id": session}, session=session)["programs_removed"] == 0
    fill()
    reset = worker.value("reset_state", session=session)
    assert (reset["status"], reset["programs_cleared"]) == ("reset", 1)
    assert reset["commands_reset"] > 0
    assert worker.value("get_stats", session=session)["command_count"] == 1


OF_SESSIONS: list[tuple[str, dict[str, Any]]] = [
    ("create_program", QA_BOT),
    ("execute_program", {"program_id": "shout", "inputs": {"text": "a"}}),
    ("list_programs", {}),
    ("get_program_info", {"program_id": "shout"}),
    ("delete_program", {"program_id": "p"}),
    ("set_lm", {"model": "m"}),
    ("configure_lm", {"model": "m"}),
    ("get_session_data", {}),
    ("update_session_data", {"operation": "delete", "key": "k"}),
    ("cleanup", {}),
    ("reset_state", {}),
    ("cleanup_session", {}),
    ("erase_session", {}),
    ("import_session", {"document": {"schema": 1, "state": None}}),
]


@pytest.mark.parametrize(("command", "args"), OF_SESSIONS)
def test_no_job_reaches_into_another_session(worker: WorkerProcess, session: str, command: str, args: dict[str, Any]) -> None:
    error = worker.failure(command, {**args, "session_id": "someone_else"}, session=session)
    assert (error.code, error.detail["path"]) == ("session_mismatch", "args.session_id")


@pytest.mark.parametrize(("command", "args"), OF_SESSIONS)
def test_a_job_without_a_session_does_not_act_as_if_session_id_were_not_there(
    worker: WorkerProcess, command: str, args: dict[str, Any]
) -> None:
    assert worker.failure(command, {**args, "session_id": "s"}).code == "session_required"


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("create_program", QA_BOT),
        ("get_session_data", {}),
        ("update_session_data", {"operation": "delete", "key": "k"}),
        ("cleanup_session", {"session_id": "s"}),
        ("delete_program", {"program_id": "p"}),
    ],
)
def test_commands_about_state_need_a_session(worker: WorkerProcess, command: str, args: dict[str, Any]) -> None:
    error = worker.failure(command, args)
    assert (error.category, error.code, error.detail["retryable"]) == ("session", "session_required", False)


def test_anonymous_calls_see_the_operators_programs_only(worker: WorkerProcess) -> None:
    assert [entry["id"] for entry in worker.value("list_programs")["programs"]] == ["shout"]
    assert worker.failure("execute_program", {"program_id": "p", "inputs": {}}).code == "program_unknown"
    assert worker.value("cleanup") == {"status": "cleaned", "programs_removed": 0}


@pytest.mark.parametrize("command", ["create_gemini_program", "execute_gemini_program"])
def test_gemini_commands_name_what_replaces_them(worker: WorkerProcess, command: str) -> None:
    error = worker.failure(command, {"api_key": "k"})
    assert (error.category, error.detail["retryable"]) == ("python", False)
    assert "set_lm" in error.detail["expected"]
    assert "create_program" in error.detail["expected"]


def test_an_unknown_command_lists_near_matches(worker: WorkerProcess) -> None:
    error = worker.failure("create_progam", {})
    assert (error.category, error.code, error.detail["retryable"]) == ("python", "unknown_command", False)
    assert "create_program" in error.detail["hint"]


def test_options_without_effect_are_refused(worker: WorkerProcess) -> None:
    error = worker.failure("echo", {}, options={"module": "react", "timeout": 5})
    assert error.code == "bad_option"
    assert "module" in error.message


def test_stub_commands(worker: WorkerProcess, session: str) -> None:
    args = {"text": "\u4e16", "n": [1, 2.5, None, b"\x00"]}
    assert worker.value("echo", args) == args
    assert worker.value("append", {"x": 1}, session=session, job="j1")["list"] == [1]
    assert worker.value("append", {"x": 2}, session=session, job="j2", attempt=3) == {"list": [1, 2], "job": "j2", "attempt": 3}
    assert worker.value("append", {"x": 9}) == {"list": [9], "job": "job-1", "attempt": 1}
    assert worker.value("sleep", {"ms": 1}) == {"slept_ms": 1}
    assert worker.value("spin", {"ms": 1})["spun_ms"] == 1
    assert worker.value("hold", {"ms": 1}) == {"held_ms": 1}
    assert worker.value("alloc", {"mb": 1})["mb"] == 1
    assert worker.value("kill", {"signal": 0}) == {"signal": 0}
    assert [chunk[2] for chunk in worker.call("stream", {"n": 2}, options={"stream": True}).chunks] == ["piece 0 ", "piece 1 "]
    assert worker.call("stream", {"n": 2}).chunks == []
    worker.value("print", {"text": "to stdout"})
    worker.value("print", {"text": "to stderr", "stderr": True})
    assert "to stdout\nto stderr\n" in worker.printed()


def test_boom_fails_as_told(worker: WorkerProcess) -> None:
    error = worker.failure(
        "boom", {"category": "resource_error", "code": "lm_rate_limit", "retryable": True, "retry_after_ms": 5, "message": "slow down"}
    )
    assert (error.category, error.code, error.message) == ("resource_error", "lm_rate_limit", "slow down")
    assert error.detail == {"retryable": True, "retry_after_ms": 5}
    assert worker.failure("boom", {"times": 2}, attempt=2).code == "boom"
    assert worker.value("boom", {"times": 2}, attempt=3) == {"attempt": 3}
