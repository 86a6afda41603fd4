"""Calls in the loop: many at once, cancelled, failing, logging; and the reports of failures."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_worker.protocol import wire
from dspex_worker.protocol.frames import FrameType, frame
from tests.client import Failed, WorkerProcess

CANCEL = FrameType.CANCEL


def running(worker: WorkerProcess, command: str) -> int:
    """A started call that has said so."""
    call = worker.start_call(command, options={"stream": True})
    kind, got, body = worker.receive()
    assert (kind, got, body) == (FrameType.CHUNK, call, [0, None, "running"])
    return call


def ended(worker: WorkerProcess, call: int) -> Failed:
    with pytest.raises(Failed) as caught:
        worker.finish(call)
    return caught.value


def test_many_calls_in_one_write_are_answered_in_order(worker: WorkerProcess) -> None:
    body = ["echo", {"x": 1}, None, "j", 1, 0, {}, None, 0, None]
    worker.send_raw(b"".join(frame(FrameType.CALL, 1000 + index, wire.encode(body)) for index in range(500)))
    assert [worker.receive()[:2] for _ in range(500)] == [(FrameType.RESULT, 1000 + index) for index in range(500)]


def test_large_values_pass_in_both_directions(worker: WorkerProcess) -> None:
    args = {"text": "x" * 3_000_000, "numbers": list(range(50_000))}
    assert worker.value("echo", args) == args


def test_calls_run_side_by_side(worker: WorkerProcess) -> None:
    """Each of 40 calls waits for a cancel that comes after all have begun; quick ones pass them."""
    calls = [worker.start_call("sleep", {"ms": 600_000}) for _ in range(40)]
    assert worker.value("echo", {"x": 1}) == {"x": 1}
    worker.send(FrameType.PING, 7, [1])
    kind, _, pong = worker.receive()
    assert (kind, pong[0], pong[2]) == (FrameType.PONG, 1, 40)
    assert pong[1] > 0
    for call in reversed(calls):
        worker.send(CANCEL, call, ["cancelled by the caller"])
        assert ended(worker, call).code == "cancelled"


def test_ping_is_answered_while_user_code_burns_cpu(worker: WorkerProcess) -> None:
    call = running(worker, "busy")
    worker.send(FrameType.PING, 0, [5])
    assert worker.expect(FrameType.PONG)[0] == 5
    worker.send(CANCEL, call, ["timeout"])
    ended(worker, call)


@pytest.mark.parametrize("command", ["busy", "busy_polling", "stubborn"])
def test_a_cancelled_call_ends_with_cancelled(worker: WorkerProcess, command: str) -> None:
    """Also one that has a result by then, because its code looked or swallowed the cancellation."""
    call = running(worker, command)
    worker.send(CANCEL, call, ["operation timeout"])
    error = ended(worker, call)
    assert (error.category, error.code, error.detail["retryable"]) == ("timeout", "cancelled", False)
    assert "operation timeout" in error.message


def test_a_cancel_may_come_with_the_call_itself(worker: WorkerProcess) -> None:
    for command in ("sleep", "busy"):
        args = {"ms": 600_000} if command == "sleep" else {}
        body = [command, args, None, "j", 1, 0, {}, None, 0, None]
        worker.send_raw(frame(FrameType.CALL, 5000, wire.encode(body)) + frame(CANCEL, 5000, wire.encode(["stop"])))
        assert ended(worker, 5000).code == "cancelled"


def test_a_cancelled_call_changes_no_state(worker: WorkerProcess, session: str) -> None:
    worker.value("append", {"x": 1}, session=session)
    call = worker.start_call("sleep", {"ms": 600_000}, session=session)
    worker.send(CANCEL, call, ["stop"])
    ended(worker, call)
    assert worker.value("append", {"x": 2}, session=session)["list"] == [1, 2]


def test_a_cancel_of_an_unknown_or_ended_call_is_ignored(worker: WorkerProcess) -> None:
    worker.send(CANCEL, 99_999, ["late"])
    call = worker.start_call("echo")
    worker.finish(call)
    worker.send(CANCEL, call, ["late"])
    assert worker.value("echo", {"still": True}) == {"still": True}


def test_a_cancelled_call_ends_when_its_thread_does() -> None:
    """With one thread the next call could not run if the answer had come before the end of the function."""
    with WorkerProcess(slots=1, imports=["sample_commands"]) as worker:
        worker.ready()
        for _ in range(20):
            call = running(worker, "busy")
            worker.send(CANCEL, call, ["stop"])
            assert ended(worker, call).code == "cancelled"
            assert worker.value("who_in_thread")["main"] is False


@pytest.mark.parametrize(
    ("kind", "category", "code", "retryable", "python_type"),
    [
        ("value", "python", "user_error", False, "ValueError"),
        ("os", "python", "user_error", True, "OSError"),
        ("chained", "python", "user_error", True, "OSError"),
        ("exit", "python", "user_exit", False, "SystemExit"),
    ],
)
def test_what_user_code_raises_is_told(
    worker: WorkerProcess, kind: str, category: str, code: str, retryable: bool, python_type: str
) -> None:
    error = worker.failure("fail", {"kind": kind})
    assert (error.category, error.code, error.detail["retryable"]) == (category, code, retryable)
    assert error.detail["python_type"] == python_type
    trace = error.detail["traceback"]
    assert "sample_commands.py:" in trace
    assert " in fail" in trace
    assert "/" not in trace
    assert "the value of a local" not in trace
    assert "runtime.py" not in trace
    assert ("caused by KeyError" in trace) == (kind == "chained")


def test_user_code_may_choose_the_error(worker: WorkerProcess) -> None:
    error = worker.failure("fail", {"kind": "worker_error"})
    assert (error.category, error.code, error.message) == ("resource_error", "quota", "no quota left")
    assert error.detail == {"retryable": True, "hint": "buy more", "retry_after_ms": 1500}


@pytest.mark.parametrize(("kind", "code"), [("exit", "user_exit"), ("cancel_self", "user_error"), ("value", "user_error")])
def test_async_user_code_cannot_end_the_loop(worker: WorkerProcess, kind: str, code: str) -> None:
    assert worker.failure("fail_async", {"kind": kind}).code == code
    assert worker.value("echo") == {}


def test_results_that_cannot_be_sent_are_refused_with_their_place(worker: WorkerProcess) -> None:
    error = worker.failure("give", {"what": "object"})
    assert (error.category, error.code, error.detail["retryable"]) == ("python", "encode_error", False)
    assert "result.deep[1]" in error.message
    assert worker.value("give", {"what": "surrogate"}) == "\ufffd"
    assert worker.value("give", {"what": "keys"}) == {"1": 2}
    assert worker.value("give", {"what": "set"}) == ["a", "b"]


def test_a_result_over_the_frame_limit_is_refused_and_its_state_with_it(session: str) -> None:
    with WorkerProcess(max_frame=60_000, imports=["sample_commands"]) as worker:
        worker.ready()
        error = worker.failure("give", {"what": "big"})
        assert (error.code, error.detail["retryable"]) == ("encode_error", False)
        assert "at most 60000" in error.message
        worker.value("append", {"x": 1}, session=session)
        # The list stands in the result and in the state: together they do not fit.
        assert worker.failure("append", {"x": "y" * 35_000}, session=session).code == "encode_error"
        assert worker.value("append", {"x": 2}, session=session)["list"] == [1, 2]


def test_a_bad_call_fails_alone(worker: WorkerProcess) -> None:
    wrong: list[list[Any]] = [
        [],
        ["echo"],
        ["echo", [], None, "j", 1, 0, {}, None, 0, None],
        ["echo", {}, None, "j", -1, 0, {}, None, 0, None],
    ]
    for fields in wrong:
        worker.send(FrameType.CALL, 77, fields)
        error = ended(worker, 77)
        assert (error.category, error.code, error.detail["retryable"]) == ("communication", "bad_frame", True)
    worker.send_raw(frame(FrameType.CALL, 78, b"\x91\xc1"))
    assert ended(worker, 78).code == "bad_frame"
    assert worker.value("echo") == {}


def test_an_unknown_lm_profile_fails_the_call(worker: WorkerProcess) -> None:
    assert worker.failure("echo", lm="never-sent").code == "lm_unknown"


def test_keys_of_profiles_never_leave_the_worker() -> None:
    key = "sk-secret-key-123456"
    with WorkerProcess(imports=["sample_commands"]) as worker:
        worker.ready()
        worker.send(FrameType.LM, 0, ["p1", {"name": "p1", "provider": "gemini", "model": "m", "api_key": key}])
        assert worker.value("predict", {"q": "x"}, lm="p1")
        assert worker.value("ping")["gemini_available"] is True
        error = worker.failure("boom", {"message": f"401 for key {key}"})
        assert error.message == "401 for key [redacted]"
        worker.value("say", {"text": f"calling with {key}"})
        worker.value("ping")
        assert [log[2] for log in worker.logs] == ["said calling with [redacted]"]


def test_log_records_become_frames_that_name_the_call(worker: WorkerProcess) -> None:
    call = worker.start_call("say", {"text": "hello", "level": "warning"}, job="job-77")
    worker.finish(call)
    worker.value("ping")
    assert worker.logs.pop() == ["warning", "sample", "said hello", call, {"job": "job-77"}]


@pytest.mark.parametrize("command", ["flood", "stream"])
def test_a_flood_of_partial_output_arrives_whole_and_in_order(worker: WorkerProcess, command: str) -> None:
    result = worker.call(command, {"n": 30_000}, options={"stream": True})
    assert [chunk[0] for chunk in result.chunks] == list(range(30_000))
    assert result.chunks[-1][2] in ("29999", "piece 29999 ")


def test_prints_are_not_protocol(worker: WorkerProcess) -> None:
    worker.value("print", {"text": "DX\x02 looks like a frame"})
    assert worker.value("echo") == {}


def test_a_fork_of_user_code_cannot_write_frames(worker: WorkerProcess) -> None:
    assert worker.value("fork_and_write") == 0
    assert worker.value("echo") == {}


def test_user_code_sees_its_job(worker: WorkerProcess, session: str) -> None:
    found = worker.value("who_am_i", job="my-job", attempt=4, session=session)
    assert found == {"job": "my-job", "attempt": 4, "session": session, "worker": "host/1", "command": "who_am_i"}
    assert worker.value("who_in_thread", job="j2") == {"job": "j2", "session": None, "main": False}


def test_the_operators_program_runs(worker: WorkerProcess, session: str) -> None:
    for kwargs in ({}, {"session": session}):
        result: Any = worker.value("execute_program", {"program_id": "shout", "inputs": {"text": "hi"}}, **kwargs)
        assert result["outputs"] == {"loud": "HI"}
    assert worker.value("get_program_info", {"program_id": "shout"})["execution_count"] == 2
    error = worker.failure("execute_program", {"program_id": "shout", "inputs": {"wrong": 1}})
    assert (error.code, error.message) == ("bad_input", "execute_program: text is missing; wrong is unknown")
    assert (error.detail["path"], error.detail["expected"]) == ("args.inputs.text", "text: str")


def test_a_worker_that_ran_out_of_memory_asks_to_be_replaced_and_goes_on() -> None:
    with WorkerProcess(imports=["sample_commands"]) as worker:
        worker.ready()
        call = worker.start_call("fail", {"kind": "memory"})
        assert worker.expect(FrameType.BYE) == ["out of memory"]
        error = ended(worker, call)
        assert (error.category, error.code, error.detail["retryable"]) == ("resource_error", "out_of_memory", True)
        assert error.detail["python_type"] == "MemoryError"
        assert worker.failure("fail", {"kind": "memory"}).code == "out_of_memory"  # said once
        assert worker.value("echo") == {}


def test_a_task_that_ignores_its_cancellation_says_where_it_waits() -> None:
    with WorkerProcess(imports=["misbehaving"]) as worker:
        worker.ready()
        call = running(worker, "deaf")
        worker.send(CANCEL, call, ["operation timeout"])
        while "Task of call" not in (text := worker.printed()):
            assert worker.value("sleep", {"ms": 20}) == {"slept_ms": 20}
        lines = text[text.index("Task of call") :].splitlines()
        assert lines[0] == f"Task of call {call} (most recent call first):"
        assert " in wait" in lines[1]
        assert "misbehaving.py" in lines[2] and lines[2].endswith(" in _stay")
        assert lines[3].endswith(" in deaf")


def test_a_fork_that_user_code_lets_go_on_does_no_harm() -> None:
    with WorkerProcess(imports=["misbehaving"]) as worker:
        worker.ready()
        found = worker.value("fork_and_return")
        assert found["pid"] == worker.pid
        for _ in range(3):
            assert worker.value("sleep", {"ms": 50}) == {"slept_ms": 50}
