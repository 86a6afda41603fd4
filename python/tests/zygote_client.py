"""Plays the host of a zygote: starts it with a control socket, has it fork workers, reaps them through it."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import tempfile
from collections import deque
from types import TracebackType
from typing import Any

from dspex_worker.protocol import wire
from dspex_worker.protocol.frames import FROM_WORKER, FrameReader, FrameType, frame
from tests.client import BOOT, PATIENCE, Failed, WorkerProcess, _high, fresh_nonce


class ForkedWorker(WorkerProcess):
    """A worker that a zygote forked; its exit status comes from the zygote."""

    def __init__(self, zygote: ZygoteProcess, nonce: str, **config: Any) -> None:
        self.zygote = zygote
        self.reader = FrameReader(FROM_WORKER)
        self.inbox: deque[tuple[int, int, bytes]] = deque()
        self.logs: list[list[Any]] = []
        self.sessions: dict[str, tuple[int, bytes | None]] = {}
        self.held: dict[str, int] = {}
        self.next_id = 1
        self.status: int | None = None
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the worker
        child_in, self.to_child = map(_high, os.pipe())
        self.from_child, child_out = map(_high, os.pipe())
        out = self.output.fileno()
        self.pid = zygote.fork(nonce, [child_in, child_out, out, out])
        self.pidfd = os.pidfd_open(self.pid)
        os.close(child_in)
        os.close(child_out)
        self.hello = self.expect(FrameType.HELLO)
        self.send(FrameType.INIT, 0, [1, {**zygote.config, "worker": "host/1", **config}])

    def wait(self) -> int:
        """The exit status; negative for a signal. The zygote reaps the process."""
        if self.status is None:
            self.status = self.zygote.exit_of(self.pid)
        return self.status


class ZygoteProcess:
    """One zygote; config are the keys of INIT."""

    def __init__(self, boot: str = BOOT, env: dict[str, str] | None = None, **config: Any) -> None:
        self.config = {"engine": "stub", **config}
        self.next_id = 1
        self.exits: dict[int, int] = {}
        self.status: int | None = None
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the zygote
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket = ours
        out, end = self.output.fileno(), _high(theirs.detach())
        actions = [(os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, out, 2), (os.POSIX_SPAWN_DUP2, end, 3)]
        argv = [sys.executable, "-I", "-X", "utf8", "-u", "-c", boot]
        environment = {"DSPEX_NONCE": fresh_nonce(), "DSPEX_ZYGOTE": "1", **(env or {})}
        self.pid = os.posix_spawn(argv[0], argv, environment, file_actions=actions, setpgroup=0)
        os.close(end)
        self.hello = self.expect(FrameType.HELLO)
        self.send(FrameType.INIT, 0, [1, {**self.config, "worker": "host/zygote"}])

    def send(self, kind: int, call: int, body: Any, fds: list[int] | None = None) -> None:
        socket.send_fds(self.socket, [frame(kind, call, wire.encode(body))], fds or [])

    def receive(self) -> tuple[int, int, Any]:
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        if not poll.poll(PATIENCE * 1000):
            raise TimeoutError("the zygote says nothing")
        data = self.socket.recv(1 << 20)
        if not data:
            raise EOFError
        ((kind, call, body),) = FrameReader(FROM_WORKER).feed(data)
        return kind, call, wire.decode(body)

    def expect(self, kind: FrameType) -> Any:
        """The body of the next frame that is no EXITED, which must be of this kind."""
        got, _, body = self.receive()
        while got == FrameType.EXITED and kind != FrameType.EXITED:
            self._note(body)
            got, _, body = self.receive()
        if got == FrameType.ERROR and kind != FrameType.ERROR:
            raise Failed(body)
        assert got == kind, (FrameType(got).name, body)
        return body

    def _note(self, body: list[Any]) -> None:
        pid, code, number = body
        self.exits[pid] = -number if number else code
        self.send(FrameType.REAP, 0, [pid])

    def exit_of(self, pid: int) -> int:
        while pid not in self.exits:
            self._note(self.expect(FrameType.EXITED))
        return self.exits[pid]

    def ready(self) -> list[Any]:
        body: list[Any] = self.expect(FrameType.READY)
        return body

    def fork(self, nonce: str, fds: list[int]) -> int:
        call, self.next_id = self.next_id, self.next_id + 1
        self.send(FrameType.FORK, call, [nonce], fds)
        pid: int = self.expect(FrameType.FORKED)[0]
        return pid

    def worker(self, nonce: str | None = None, **config: Any) -> ForkedWorker:
        return ForkedWorker(self, nonce or fresh_nonce(), **config)

    def wait(self) -> int:
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def printed(self) -> str:
        self.output.seek(0)
        return self.output.read().decode("utf-8", "replace")

    def __enter__(self) -> ZygoteProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.socket.close()
        if self.status is None:
            if kind is not None:
                os.kill(self.pid, signal.SIGKILL)
            self.wait()
        self.output.close()
