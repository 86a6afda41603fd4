"""Plays the host: starts a real worker over real pipes and talks to it in frames."""

from __future__ import annotations

import fcntl
import os
import secrets
import select
import sys
import tempfile
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any

from dspex_worker.protocol import wire
from dspex_worker.protocol.frames import FROM_WORKER, FrameReader, FrameType, frame

ROOT = Path(__file__).resolve().parent.parent
BOOT = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests' / 'modules')!r}]; from dspex_worker.__main__ import main; main()"
PATIENCE = 60.0  # seconds; only a worker that hangs makes a test wait that long


class Gone(Exception):
    """The worker has closed its pipe."""


class Failed(Exception):
    """A call ended in ERROR."""

    def __init__(self, body: list[Any]) -> None:
        self.category, self.code, self.message, self.detail = body[:4]
        super().__init__(f"{self.category}/{self.code}: {self.message}")


class Result:
    """A call ended in RESULT; chunks are those that came before it."""

    def __init__(self, body: list[Any], chunks: list[list[Any]]) -> None:
        self.value, self.meta, self.state, self.version = body[:4]
        self.chunks = chunks


def _high(fd: int) -> int:
    """The same pipe end under a number that no dup2 of the start can hit."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20)
    os.close(fd)
    return moved


def fresh_nonce() -> str:
    """What carries the mark of a worker that is gone is killed: no two may have the same."""
    return secrets.token_hex(13)


class WorkerProcess:
    """One worker; config are the keys of INIT. Leaving the `with` kills what is left of it."""

    def __init__(
        self,
        *,
        python: tuple[str, ...] = ("-I", "-X", "utf8", "-u"),
        boot: str = BOOT,
        proto: int = 1,
        init: bool = True,
        env: dict[str, str] | None = None,
        **config: Any,
    ) -> None:
        self.reader = FrameReader(FROM_WORKER)
        self.inbox: deque[tuple[int, int, bytes]] = deque()
        self.logs: list[list[Any]] = []
        self.sessions: dict[str, tuple[int, bytes | None]] = {}  # the host's records: version and state
        self.held: dict[str, int] = {}  # versions that the worker is believed to hold
        self.next_id = 1
        self.status: int | None = None
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the worker
        self._start([sys.executable, *python, "-c", boot], {"DSPEX_NONCE": fresh_nonce(), **(env or {})})
        self.hello = self.expect(FrameType.HELLO)
        if init:
            self.send(FrameType.INIT, 0, [proto, {"engine": "stub", "worker": "host/1", **config}])

    def _start(self, argv: list[str], env: dict[str, str]) -> None:
        child_in, to_child = map(_high, os.pipe())
        from_child, child_out = map(_high, os.pipe())
        self.to_child, self.from_child = to_child, from_child
        out = self.output.fileno()
        actions = [
            (os.POSIX_SPAWN_DUP2, out, 1),
            (os.POSIX_SPAWN_DUP2, out, 2),
            (os.POSIX_SPAWN_DUP2, child_in, 3),
            (os.POSIX_SPAWN_DUP2, child_out, 4),
        ]
        self.pid = os.posix_spawn(argv[0], argv, env, file_actions=actions, setpgroup=0)
        self.pidfd = os.pidfd_open(self.pid)
        os.close(child_in)
        os.close(child_out)

    # ---- frames

    def send_raw(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.to_child, data) :]

    def send(self, kind: int, call: int, body: Any) -> None:
        self.send_raw(frame(kind, call, wire.encode(body)))

    def receive(self) -> tuple[int, int, Any]:
        """The next frame that is no LOG."""
        while True:
            while self.inbox:
                kind, call, body = self.inbox.popleft()
                if kind != FrameType.LOG:
                    return kind, call, wire.decode(body, any_case=True)
                self.logs.append(wire.decode(body))
            self._fill()

    def _fill(self) -> None:
        poll = select.poll()
        poll.register(self.from_child, select.POLLIN)
        if not poll.poll(PATIENCE * 1000):
            raise TimeoutError("the worker says nothing")
        data = os.read(self.from_child, 1 << 20)
        if not data:
            raise Gone
        self.inbox.extend(self.reader.feed(data))

    def expect(self, kind: FrameType) -> Any:
        got, _, body = self.receive()
        assert got == kind, (FrameType(got).name, body)
        return body

    def ready(self) -> list[Any]:
        body: list[Any] = self.expect(FrameType.READY)
        return body

    # ---- calls

    def start_call(
        self,
        command: str,
        args: dict[str, Any] | None = None,
        *,
        session: str | None = None,
        job: str = "job-1",
        attempt: int = 1,
        options: dict[str, Any] | None = None,
        lm: str | None = None,
        budget_ms: int = 30_000,
    ) -> int:
        call, self.next_id = self.next_id, self.next_id + 1
        version, state = self.sessions.get(session or "", (0, None))
        if session is not None and self.held.get(session) == version:
            state = None
        self.send(FrameType.CALL, call, [command, args or {}, session, job, attempt, budget_ms, options or {}, state, version, lm])
        return call

    def finish(self, call: int, session: str | None = None) -> Result:
        """The end of that call; other frames in between are an error of the test, except its chunks."""
        chunks = []
        while True:
            kind, got, body = self.receive()
            assert got == call, (FrameType(kind).name, got, body)
            if kind == FrameType.CHUNK:
                chunks.append(body)
            elif kind == FrameType.ERROR:
                raise Failed(body)
            else:
                assert kind == FrameType.RESULT
                result = Result(body, chunks)
                if session is not None and result.state is not None:
                    self.sessions[session] = (result.version, result.state)
                    self.held[session] = result.version
                return result

    def call(self, command: str, args: dict[str, Any] | None = None, **more: Any) -> Result:
        return self.finish(self.start_call(command, args, **more), more.get("session"))

    def value(self, command: str, args: dict[str, Any] | None = None, **more: Any) -> Any:
        return self.call(command, args, **more).value

    def failure(self, command: str, args: dict[str, Any] | None = None, **more: Any) -> Failed:
        try:
            result = self.call(command, args, **more)
        except Failed as error:
            return error
        raise AssertionError(f"{command} succeeded: {result.value!r}")

    # ---- the end

    def hang_up(self) -> None:
        """The host's end of pipe 3 closes, as when the host dies."""
        if self.to_child >= 0:
            os.close(self.to_child)
            self.to_child = -1

    def wait(self) -> int:
        """The exit status; negative for a signal."""
        if self.status is None:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            if not poll.poll(PATIENCE * 1000):
                raise TimeoutError("the worker does not end")
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def printed(self) -> str:
        self.output.seek(0)
        return self.output.read().decode("utf-8", "replace")

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.status is None:
            os.killpg(self.pid, 9)
            self.wait()
        self.hang_up()
        os.close(self.from_child)
        os.close(self.pidfd)
        self.output.close()
