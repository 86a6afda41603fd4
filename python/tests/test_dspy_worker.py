"""A worker process with the DSPy engine, spoken to in frames as the host does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from dspex_worker.protocol.frames import FrameType
from tests.client import WorkerProcess
from tests.fake_lm import FakeLM, Reply, in_thread
from tests.zygote_client import ZygoteProcess

KEY = "sk-of-the-worker-0123456789"
SIGNATURE = {"name": "QA", "inputs": [{"name": "question", "type": "string"}], "outputs": [{"name": "answer", "type": "string"}]}


@pytest.fixture(scope="module")
def server() -> Iterator[FakeLM]:
    with in_thread() as running:
        yield running


@pytest.fixture(scope="module", params=["spawned", "forked"])
def worker(server: FakeLM, request: pytest.FixtureRequest) -> Iterator[WorkerProcess]:
    with ExitStack() as stack:
        if request.param == "spawned":
            process = stack.enter_context(WorkerProcess(engine="dspy", imports=["dspy_programs"]))
        else:
            zygote = stack.enter_context(ZygoteProcess(engine="dspy", imports=["dspy_programs"]))
            assert zygote.ready()[3:5] == ["dspy", "3.4.1"]
            process = stack.enter_context(zygote.worker())
        slots, _, _, engine, version, *_ = process.ready()
        assert (engine, version) == ("dspy", "3.4.1")
        assert slots == 64
        lm = {"name": "main", "provider": "openai", "model": "gpt-4o-mini", "api_base": server.url, "api_key": KEY, "temperature": 0.7}
        lm |= {"max_tokens": None, "timeout_ms": 30_000, "max_connections": 100, "supports": {}}
        process.send(FrameType.LM, 0, ["lm-1", lm])
        yield process
        assert KEY not in process.printed()
        assert KEY not in repr(process.logs)


def ask(worker: WorkerProcess, command: str, args: dict[str, Any], **more: Any) -> Any:
    return worker.call(command, args, lm="lm-1", **more)


def test_predict_gives_a_bare_map_of_outputs(worker: WorkerProcess) -> None:
    result = ask(worker, "predict", {"question": "What is the capital of France?"})
    assert result.value == {"answer": "echo of What is the capital of France?"}
    assert result.meta["usage"] == {"openai/gpt-4o-mini": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}
    assert result.meta["engine"] == "dspy 3.4.1"


def test_a_conversation_is_in_the_prompt(worker: WorkerProcess, server: FakeLM) -> None:
    ask(worker, "predict", {"text": "My name is Ada"}, session="talk")
    ask(worker, "predict", {"question": "What did I say?"}, session="talk")
    assert "My name is Ada" in server.requests[-1].prompt


def test_a_program_is_created_and_executed(worker: WorkerProcess) -> None:
    assert ask(worker, "create_program", {"id": "qa", "signature": SIGNATURE}, session="s").value == "qa"
    result = ask(worker, "execute_program", {"program_id": "qa", "inputs": {"question": "What is ML?"}}, session="s")
    assert result.value["outputs"] == {"answer": "echo of What is ML?"}


def test_chunks_add_up_to_the_answer(worker: WorkerProcess) -> None:
    result = ask(worker, "predict", {"question": "Say something long, please."}, options={"stream": True})
    assert len(result.chunks) > 1
    assert [chunk[0] for chunk in result.chunks] == list(range(len(result.chunks)))
    assert "".join(chunk[2] for chunk in result.chunks) == result.value["answer"]


def test_the_operators_programs_and_functions_find_the_jobs_model(worker: WorkerProcess) -> None:
    result = ask(worker, "execute_program", {"program_id": "two_steps", "inputs": {"question": "q"}})
    assert result.value["outputs"] == {"answer": "echo of echo of q"}
    for command in ("ask", "ask_later"):
        assert ask(worker, command, {"question": "q"}, job="j7").value == {"answer": "echo of q", "job": "j7"}


@pytest.mark.parametrize("command", ["predict", "ask", "ask_later"])
def test_failures_of_the_model_have_their_codes_everywhere(worker: WorkerProcess, server: FakeLM, command: str) -> None:
    server.script = [Reply(status=429, headers={"Retry-After": "2"}, error={"message": f"key {KEY}", "type": "t"})]
    error = worker.failure(command, {"question": "q"}, lm="lm-1")
    assert (error.category, error.code) == ("resource_error", "lm_rate_limit")
    assert error.detail["retryable"] is True
    assert error.detail["retry_after_ms"] == 2000
    assert KEY not in repr((error.message, error.detail))


@pytest.mark.parametrize("command", ["predict", "ask", "ask_later"])
def test_without_a_model_each_says_so(worker: WorkerProcess, command: str) -> None:
    error = worker.failure(command, {"question": "q"})
    assert (error.category, error.code) == ("python", "lm_not_configured")


def test_many_calls_are_in_flight_in_one_worker(worker: WorkerProcess) -> None:
    calls = {worker.start_call("predict", {"question": f"q{i}"}, lm="lm-1"): f"echo of q{i}" for i in range(40)}
    while calls:
        kind, call, (value, *_) = worker.receive()
        assert kind == FrameType.RESULT
        assert value == {"answer": calls.pop(call)}


def test_a_missing_dspy_is_a_start_error_that_names_the_lock(tmp_path: Any) -> None:
    with WorkerProcess(engine="dspy", python=("-I", "-S", "-X", "utf8", "-u")) as process:
        category, code, _, detail = process.expect(FrameType.ERROR)[:4]
        assert (category, code) == ("initialization", "engine_missing")
        assert "worker.txt" in detail["hint"]
        assert process.wait() == 3
