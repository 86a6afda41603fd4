"""Start and end of the process."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dspex_worker.protocol import wire
from dspex_worker.protocol.frames import FrameType, frame
from tests.client import BOOT, PATIENCE, Failed, Gone, WorkerProcess


def drained(worker: WorkerProcess) -> None:
    """The worker sends nothing more."""
    with pytest.raises(Gone):
        worker.receive()


def test_hello_comes_first_and_ready_after_init() -> None:
    with WorkerProcess(slots=3, imports=["sample_commands"], env={"DSPEX_NONCE": "lifecycle-hello"}) as worker:
        low, high, version, digest, python, implementation, pid, nonce, codec = worker.hello
        assert (low, high, nonce) == (1, 1, "lifecycle-hello")
        assert len(digest) == 64
        assert pid == worker.pid
        assert implementation == "cpython"
        assert codec == wire.CODEC
        slots, commands, exclusive, engine, engine_version, rss, import_ms = worker.ready()
        assert (slots, engine, engine_version) == (3, "stub", None)
        assert commands == sorted(commands)
        assert {"predict", "echo", "add", "who_am_i"} <= set(commands)
        assert exclusive == ["alone", "spin"]
        assert rss > 0
        assert import_ms >= 0


def test_a_worker_starts_without_third_party_packages() -> None:
    with WorkerProcess(python=("-I", "-S", "-X", "utf8", "-u")) as worker:
        assert worker.hello[8] == "stdlib"
        assert worker.ready()[0] == 64
        args = {"text": "\u4e16", "n": [1, 2.5, None, b"\x00", 2**64 - 1, -(2**63)]}
        assert worker.value("echo", args) == args
        assert worker.value("predict", {"question": "q"}, session="s") == {"answer": "[stub] q"}
        assert worker.value("append", {"x": 1}, session="s")["list"] == [1]
        worker.send(FrameType.SHUTDOWN, 0, [1000])
        assert worker.expect(FrameType.BYE) == ["shutdown"]
        assert worker.wait() == 0


def test_frames_that_come_with_init_are_not_lost() -> None:
    with WorkerProcess(init=False) as worker:
        parts = [
            (FrameType.INIT, 0, [1, {"engine": "stub"}]),
            (FrameType.LM, 0, ["p1", {"name": "p1", "provider": "gemini"}]),
            (FrameType.CALL, 1, ["echo", {"early": 1}, None, "j", 1, 0, {}, None, 0, "p1"]),
        ]
        worker.send_raw(b"".join(frame(kind, call, wire.encode(body)) for kind, call, body in parts))
        worker.ready()
        assert worker.finish(1).value == {"early": 1}


@pytest.mark.parametrize(
    ("config", "code", "parts"),
    [
        ({"engine": "spark"}, "bad_config", ["dspy, stub"]),
        (
            {"colour": 1, "slots": "many", "imports": "x", "sites": [1], "warm_up": 1, "answers": [{"where": {}}]},
            "bad_config",
            ["unknown key colour", "slots must be", "imports must be", "sites must be", "warm_up must be true or false", "answers must be"],
        ),
        ({"imports": ["no_such_module"]}, "import_failed", ["no_such_module"]),
        ({"imports": ["broken_import"]}, "import_failed", ["broken_import", "no such licence"]),
        ({"imports": ["clashing"]}, "name_clash", ["command predict is a built-in", "command twice is registered twice"]),
    ],
)
def test_a_start_that_fails_says_why_and_exits_with_3(config: dict[str, Any], code: str, parts: list[str]) -> None:
    with WorkerProcess(**config) as worker:
        kind, call, (category, got, message, *_) = worker.receive()
        assert (kind, call, category, got) == (FrameType.ERROR, 0, "initialization", code)
        for part in parts:
            assert part in message
        assert worker.wait() == 3


def test_another_protocol_version_is_refused() -> None:
    with WorkerProcess(proto=2) as worker:
        error = Failed(worker.expect(FrameType.ERROR))
        assert (error.category, error.code) == ("initialization", "proto_mismatch")
        assert "protocol 2" in error.message
        assert worker.wait() == 3


@pytest.mark.parametrize(
    "garbage", [b"this is no frame at all", frame(66, 1, b""), b"DX\x02\x00\xff\xff\xff\xff" + b"\0" * 8, frame(5, 0, b"\x90")]
)
@pytest.mark.parametrize("after_ready", [True, False])
def test_garbage_ends_the_worker(garbage: bytes, after_ready: bool) -> None:
    with WorkerProcess(init=after_ready) as worker:
        if after_ready:
            worker.ready()
        worker.send_raw(garbage)
        assert worker.wait() == 4
        drained(worker)
        assert "protocol error" in worker.printed()


def test_half_a_frame_and_then_the_end_of_the_host() -> None:
    with WorkerProcess() as worker:
        worker.ready()
        worker.send_raw(frame(FrameType.CALL, 1, b"x" * 100)[:50])
        worker.hang_up()
        assert worker.wait() == -signal.SIGKILL


def has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(PATIENCE * 1000))


def test_the_end_of_the_host_ends_the_whole_group() -> None:
    with WorkerProcess(imports=["sample_commands"]) as worker:
        worker.ready()
        grandchild = os.pidfd_open(worker.value("child_process"))
        worker.hang_up()
        assert worker.wait() == -signal.SIGKILL
        assert has_ended(grandchild)
        os.close(grandchild)


def test_the_end_of_the_host_is_seen_while_the_loop_is_blocked(tmp_path: Path) -> None:
    fifo = tmp_path / "blocked"
    os.mkfifo(fifo)
    with WorkerProcess(imports=["sample_commands"]) as worker:
        worker.ready()
        worker.start_call("block_loop", {"fifo": str(fifo)})
        assert fifo.read_text() == "blocked"
        worker.hang_up()
        assert worker.wait() == -signal.SIGKILL


def test_the_end_of_the_host_before_init() -> None:
    with WorkerProcess(init=False) as worker:
        worker.hang_up()
        assert worker.wait() == -signal.SIGKILL


def test_shutdown_lets_running_calls_end() -> None:
    with WorkerProcess() as worker:
        worker.ready()
        call = worker.start_call("sleep", {"ms": 50})
        worker.send(FrameType.SHUTDOWN, 0, [60_000])
        late = worker.start_call("echo")
        with pytest.raises(Failed) as refused:
            worker.finish(late)
        assert (refused.value.category, refused.value.code, refused.value.detail["retryable"]) == ("connection", "shutting_down", True)
        assert worker.finish(call).value == {"slept_ms": 50}
        assert worker.expect(FrameType.BYE) == ["shutdown"]
        drained(worker)
        assert worker.wait() == 0


def test_shutdown_cancels_what_outlives_the_grace() -> None:
    with WorkerProcess() as worker:
        worker.ready()
        call = worker.start_call("sleep", {"ms": 600_000})
        worker.send(FrameType.SHUTDOWN, 0, [0])
        with pytest.raises(Failed, match="the worker is ending") as ended:
            worker.finish(call)
        assert (ended.value.category, ended.value.code, ended.value.detail["retryable"]) == ("connection", "shutting_down", True)
        assert worker.expect(FrameType.BYE) == ["shutdown"]
        assert worker.wait() == 0


def test_the_shutdown_command_answers_then_exits() -> None:
    with WorkerProcess(mode="production") as worker:
        worker.ready()
        worker.value("append", {"x": 1}, session="s")
        assert worker.failure("shutdown", {"worker_id": "host/2"}).code == "bad_input"
        call = worker.start_call("shutdown", {"worker_id": "host/1"})
        assert worker.expect(FrameType.BYE) == ["shutdown command"]
        assert worker.finish(call).value == {
            "status": "shutting_down",
            "worker_id": "host/1",
            "mode": "production",
            "sessions_cleaned": 1,
        }
        assert worker.value("echo", {"x": 1}) == {"x": 1}  # it crossed the BYE
        worker.send(FrameType.SHUTDOWN, 0, [60_000])
        assert worker.expect(FrameType.BYE) == ["shutdown"]
        assert worker.wait() == 0


def test_sigterm_ends_in_order() -> None:
    with WorkerProcess() as worker:
        worker.ready()
        os.kill(worker.pid, signal.SIGTERM)
        assert worker.expect(FrameType.BYE) == ["SIGTERM"]
        assert worker.wait() == 0


def test_sigusr2_writes_all_stacks_and_the_worker_goes_on() -> None:
    with WorkerProcess() as worker:
        worker.ready()
        worker.value("kill", {"signal": int(signal.SIGUSR2)})
        assert worker.value("echo") == {}
        assert "most recent call first" in worker.printed()


@pytest.mark.parametrize(
    ("command", "args", "status"), [("exit", {"code": 9}, 9), ("kill", {"signal": 9}, -9), ("kill", {"signal": 11}, -11)]
)
def test_a_crash_ends_without_an_answer(command: str, args: dict[str, int], status: int) -> None:
    with WorkerProcess() as worker:
        worker.ready()
        worker.start_call(command, args)
        assert worker.wait() == status
        drained(worker)


def test_started_by_hand_it_says_what_it_is_for() -> None:
    found = subprocess.run([sys.executable, "-I", "-c", BOOT], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "started by a worker-host" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_host_that_stops_reading_is_gone() -> None:
    with WorkerProcess() as worker:
        worker.ready()
        os.close(worker.from_child)
        worker.from_child = os.open(os.devnull, os.O_RDONLY)
        worker.start_call("echo")
        assert worker.wait() == -signal.SIGKILL


def test_the_stub_answers_what_a_scenario_says() -> None:
    answers = [
        {"where": {"question": "Who?", "n": 1}, "outputs": {"answer": "Ada", "unused": 1}},
        {"where": {}, "outputs": {"mood": "good"}},
    ]
    with WorkerProcess(answers=answers) as worker:
        worker.ready()
        assert worker.value("predict", {"question": "Who?", "n": 1}) == {"answer": "Ada"}
        assert worker.value("predict", {"question": "Who?", "n": 2}) == {"answer": "[stub] 2"}
        assert worker.value("predict", {"text": "x"}, options={"outputs": ["mood"]}) == {"mood": "good"}
