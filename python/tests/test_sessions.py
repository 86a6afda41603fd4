"""State: who holds it, what changes it, and what a failure leaves of it."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_worker.errors import WorkerError
from dspex_worker.protocol import wire
from dspex_worker.protocol.frames import FrameType
from dspex_worker.state import EMPTY, Sessions
from tests.client import WorkerProcess


def turns(worker: WorkerProcess, session: str) -> list[dict[str, Any]]:
    """The history in the record that the host holds."""
    state = worker.sessions[session][1]
    assert state is not None
    history: list[dict[str, Any]] = wire.decode(state)["history"]
    return history


def test_a_call_that_changes_nothing_returns_no_state(worker: WorkerProcess, session: str) -> None:
    result = worker.call("ping", session=session)
    assert (result.state, result.version) == (None, 0)


def test_each_change_counts_the_version_up(worker: WorkerProcess, session: str) -> None:
    versions = [worker.call("append", {"x": index}, session=session).version for index in range(3)]
    assert versions == [1, 2, 3]
    assert worker.call("ping", session=session).version == 3


def test_the_state_is_a_map_with_a_schema_version(worker: WorkerProcess, session: str) -> None:
    raw = worker.call("append", {"x": 1}, session=session).state
    state = wire.decode(raw)
    assert set(state) == {"v", "version", "programs", "lm", "history", "data", "created_at"}
    assert (state["v"], state["version"], state["data"]) == (1, 1, {"list": [1]})
    assert wire.encode(state) == raw


def test_sessions_do_not_mix(worker: WorkerProcess, session: str) -> None:
    one, two = session[:50] + "_1", session[:50] + "_2"
    for index in range(3):
        worker.value("append", {"x": index}, session=one)
        worker.value("append", {"x": -index}, session=two)
    worker.value("create_program", {"id": "p", "signature": "a -> b"}, session=one)
    worker.value("create_program", {"id": "p", "signature": "c -> d"}, session=two)
    assert worker.value("append", {"x": 9}, session=one)["list"] == [0, 1, 2, 9]
    assert worker.value("append", {"x": 9}, session=two)["list"] == [0, -1, -2, 9]
    assert worker.value("execute_program", {"program_id": "p", "inputs": {"c": "x"}}, session=two)["outputs"] == {"d": "[stub] x"}


def test_a_worker_without_the_state_asks_for_it(worker: WorkerProcess, session: str) -> None:
    worker.value("append", {"x": 1}, session=session)
    worker.send(FrameType.DROP, 0, [session])
    error = worker.failure("append", {"x": 2}, session=session)
    assert (error.category, error.code, error.detail["retryable"]) == ("session", "state_missing", True)
    worker.held.clear()
    assert worker.value("append", {"x": 2}, session=session)["list"] == [1, 2]


def test_another_version_than_the_held_one_is_missing(worker: WorkerProcess, session: str) -> None:
    worker.value("append", {"x": 1}, session=session)
    version, state = worker.sessions[session]
    worker.sessions[session] = (version + 1, state)
    worker.held[session] = version + 1
    assert worker.failure("ping", session=session).code == "state_missing"


def test_version_0_without_state_is_the_empty_session(worker: WorkerProcess, session: str) -> None:
    worker.value("append", {"x": 1}, session=session)
    del worker.sessions[session], worker.held[session]
    assert worker.value("append", {"x": 2}, session=session)["list"] == [2]


def test_the_state_that_the_host_sends_wins(worker: WorkerProcess, session: str) -> None:
    worker.value("append", {"x": 1}, session=session)
    old = worker.sessions[session]
    worker.value("append", {"x": 2}, session=session)
    worker.sessions[session] = old  # the host could not commit the second call
    worker.held.clear()
    assert worker.value("append", {"x": 3}, session=session)["list"] == [1, 3]


def test_a_session_moves_to_another_worker(worker: WorkerProcess, session: str) -> None:
    worker.value("create_program", {"id": "p", "signature": "a -> b"}, session=session)
    worker.value("predict", {"question": "first"}, session=session)
    with WorkerProcess() as other:
        other.ready()
        other.sessions.update(worker.sessions)
        assert other.value("execute_program", {"program_id": "p", "inputs": {"a": "x"}}, session=session)["outputs"] == {"b": "[stub] x"}
        other.value("predict", {"question": "second"}, session=session)
        assert [turn["inputs"]["question"] for turn in turns(other, session)] == ["first", "second"]


def test_a_failed_call_leaves_the_old_state(worker: WorkerProcess, session: str) -> None:
    worker.value("append", {"x": 1}, session=session)
    worker.failure("boom", session=session)
    result = worker.call("append", {"x": 2}, session=session)
    assert (result.value["list"], result.version) == ([1, 2], 2)


def test_a_state_over_the_limit_is_refused_and_the_old_one_stays(session: str) -> None:
    with WorkerProcess(state_bytes=2000) as worker:
        worker.ready()
        worker.value("append", {"x": 1}, session=session)
        error = worker.failure("append", {"x": "y" * 2000}, session=session)
        assert (error.category, error.code, error.detail["retryable"]) == ("session", "state_too_large", False)
        assert "at most 2000" in error.message
        result = worker.call("append", {"x": 2}, session=session)
        assert (result.value["list"], result.version) == ([1, 2], 2)


def test_an_unreadable_or_newer_state_is_refused(worker: WorkerProcess, session: str) -> None:
    good = wire.decode(worker.call("append", {"x": 1}, session=session).state)
    worker.held.clear()
    for raw, code in (
        (b"\xc1", "record_unreadable"),
        (wire.encode([1]), "record_unreadable"),
        (wire.encode({**good, "history": {}}), "record_unreadable"),
        (wire.encode({**good, "v": 2}), "record_newer"),
    ):
        worker.sessions[session] = (1, raw)
        error = worker.failure("ping", session=session)
        assert (error.category, error.code, error.detail["retryable"]) == ("session", code, False)


def test_predict_is_a_conversation(worker: WorkerProcess, session: str) -> None:
    prompts = []
    for text in ("Hello, I'm starting a conversation", "Can you remember what I just said?", "Now summarize our entire conversation"):
        prompts.append(worker.call("predict", {"text": text}, session=session).meta["usage"]["stub"]["prompt_tokens"])
    assert prompts[0] < prompts[1] < prompts[2]  # the stub counts the words of the history, too
    assert turns(worker, session)[0] == {
        "inputs": {"text": "Hello, I'm starting a conversation"},
        "outputs": {"answer": "[stub] Hello, I'm starting a conversation"},
    }
    assert len(turns(worker, session)) == 3


def test_the_history_is_bounded_by_turns(session: str) -> None:
    with WorkerProcess(history_turns=2) as worker:
        worker.ready()
        for index in range(4):
            worker.value("predict", {"n": index}, session=session)
        assert [turn["inputs"]["n"] for turn in turns(worker, session)] == [2, 3]


def test_the_history_is_bounded_by_bytes(session: str) -> None:
    with WorkerProcess(history_bytes=600) as worker:
        worker.ready()
        for index in range(4):
            worker.value("predict", {"text": str(index) * 100}, session=session)
        assert [turn["inputs"]["text"][0] for turn in turns(worker, session)] == ["2", "3"]
        worker.value("predict", {"text": "x" * 1000}, session=session)
        assert turns(worker, session) == []


def test_a_program_with_a_history_input_gets_the_sessions(worker: WorkerProcess, session: str) -> None:
    worker.value("create_program", {"id": "chat", "signature": "history: history, question -> answer"}, session=session)
    worker.value("create_program", {"id": "plain", "signature": "question -> answer"}, session=session)
    worker.value("predict", {"question": "one two three"}, session=session)

    def tokens(program: str, **inputs: Any) -> Any:
        args = {"program_id": program, "inputs": {"question": "q", **inputs}}
        return worker.call("execute_program", args, session=session).meta["usage"]["stub"]["prompt_tokens"]

    alone = tokens("plain")
    assert tokens("chat", history=[]) < tokens("chat")  # an own history, even an empty one, is the caller's
    assert tokens("plain") == alone
    assert [turn["inputs"] for turn in turns(worker, session)] == [{"question": "one two three"}, {"question": "q"}, {"question": "q"}]


def test_1024_sessions_are_kept_and_the_least_used_goes(worker: WorkerProcess, session: str) -> None:
    names = [f"{session[:40]}_{index}" for index in range(1025)]
    for name in names:
        worker.value("append", {"x": 1}, session=name)
        worker.value("ping", session=names[0])  # used again and again
    assert worker.failure("ping", session=names[1]).code == "state_missing"
    assert worker.value("ping", session=names[2])["status"] == "ok"
    assert worker.value("ping", session=names[0])["status"] == "ok"


def test_large_states_push_out_those_used_longest_ago() -> None:
    held = Sessions(limit=10, limit_bytes=100)
    for name, size in (("a", 40), ("b", 40), ("a", 50), ("c", 30)):  # a grew, and is newer than b
        held.keep(name, 1, EMPTY, size)
    with pytest.raises(WorkerError, match="does not hold"):
        held.load("b", 1, None)
    assert held.load("a", 1, None) is EMPTY
    held.keep("huge", 1, EMPTY, 1000)  # the latest one stays, whatever its size
    assert held.load("huge", 1, None) is EMPTY
    assert len(held) == 1
    held.drop("huge")
    for name in ("x", "y"):  # what went away counts no more
        held.keep(name, 1, EMPTY, 50)
    assert held.clear() == 2
