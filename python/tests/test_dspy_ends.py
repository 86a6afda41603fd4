"""The end of a job ends what it waits for at a model: the server gets its slot back, the worker its thread, and no other job is disturbed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from dspex_worker.protocol.frames import FrameType
from tests.client import PATIENCE, Failed, WorkerProcess
from tests.fake_lm import FakeLM, Reply, in_thread

PROGRAMS = ["call", "loop", "parallel", "evaluate", "thread", "again", "tool", "own_model"]


@pytest.fixture
def server() -> Iterator[FakeLM]:
    with in_thread() as running:
        yield running


@pytest.fixture(scope="module", params=["our transport", "DSPy's transport"])
def worker(request: pytest.FixtureRequest) -> Iterator[WorkerProcess]:
    env = {} if request.param == "our transport" else {"DSPEX_FAST_PATHS": "none"}
    with WorkerProcess(engine="dspy", env=env, imports=["waiting_programs"], slots=16) as process:
        process.ready()
        yield process
        assert process.value("ping")["status"] == "ok"  # one process served all of it


def start(worker: WorkerProcess, server: FakeLM, name: str, streaming: bool = False, **more: Any) -> int:
    """A program, or a function, whose model was asked and never answers. streaming: it stops in the middle of its answer."""
    asked = threading.Event()

    def script(request: Any) -> Reply:
        asked.set()
        return Reply(pause=asyncio.Event()) if streaming else Reply(hold=asyncio.Event())

    server.script = script
    profile = {"provider": "openai", "model": "gpt-4o-mini", "api_base": server.url, "api_key": "sk-0123456789abcdef"}
    worker.send(FrameType.LM, 0, [server.url, profile])
    inputs = {"question": server.url}
    if name == "function":
        call = worker.start_call("waits_in_function", inputs, lm=server.url, **more)
    else:
        call = worker.start_call("execute_program", {"program_id": name, "inputs": inputs}, lm=server.url, **more)
    assert asked.wait(PATIENCE)
    return call


def ended(worker: WorkerProcess, call: int) -> str:
    """The code of the call's failure."""
    with pytest.raises(Failed) as found:
        worker.finish(call)
    return str(found.value.code)


def all_left(server: FakeLM) -> None:
    """Nobody waits at the model any more."""
    for _ in server.requests:
        assert server.left.acquire(timeout=PATIENCE)


@pytest.mark.parametrize("name", [*(f"waits_{name}" for name in PROGRAMS), "function"])
def test_a_cancelled_job_lets_go_of_its_model(worker: WorkerProcess, server: FakeLM, name: str) -> None:
    call = start(worker, server, name)
    worker.send(FrameType.CANCEL, call, ["cancelled by the caller"])
    assert ended(worker, call) == "cancelled"
    all_left(server)


@pytest.mark.parametrize("name", ["waits_call", "waits_parallel", "waits_tool"])
def test_a_job_whose_time_is_over_lets_go_of_its_model(worker: WorkerProcess, server: FakeLM, name: str) -> None:
    call = start(worker, server, name, budget_ms=3000)
    assert ended(worker, call) == "operation_timeout"
    all_left(server)


def test_a_cancelled_job_lets_go_of_a_model_that_streams(worker: WorkerProcess, server: FakeLM) -> None:
    call = start(worker, server, "waits_call", streaming=True, options={"stream": True})
    kind, of, _ = worker.receive()
    assert (kind, of) == (FrameType.CHUNK, call)
    worker.send(FrameType.CANCEL, call, ["cancelled by the caller"])
    assert ended(worker, call) == "cancelled"
    all_left(server)


@pytest.mark.parametrize("name", ["leaves_thread", "leaves_task"])
def test_what_a_job_leaves_behind_lets_go_of_its_model(worker: WorkerProcess, server: FakeLM, name: str) -> None:
    call = start(worker, server, name)
    worker.send(FrameType.CALL, 10_000 + call, ["at_model", {}, None, "j", 1, 30_000, {}, None, 0, None])
    found = dict([worker.receive()[1::-1], worker.receive()[1::-1]])
    assert found == {call: FrameType.RESULT, 10_000 + call: FrameType.RESULT}
    all_left(server)


def test_a_connection_that_was_used_by_a_job_that_ended_well_serves_the_next(worker: WorkerProcess, server: FakeLM) -> None:
    profile = {"provider": "openai", "model": "gpt-4o-mini", "api_base": server.url, "api_key": "sk-0123456789abcdef"}
    worker.send(FrameType.LM, 0, [server.url, profile])
    for _ in range(3):
        worker.value("waits_in_function", {"question": "?"}, lm=server.url)
    assert server.connections == 1
