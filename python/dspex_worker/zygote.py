"""The zygote: a process that has imported everything once and forks a worker from itself whenever the host requests one.

It runs no job, holds no key, and has one thread: a lock that another thread held at the fork would stay locked in the child
for ever. With a second thread, whoever started it, it refuses to fork, and the host starts workers one by one instead.
contract/frame.md has the protocol with the host.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import select
import signal
import socket
import sys
import threading
from typing import Any, NoReturn

from dspex_worker import start
from dspex_worker.errors import WorkerError, bounded
from dspex_worker.protocol import bodies, frames, wire
from dspex_worker.protocol.frames import FrameReader, FrameType, frame
from dspex_worker.system import process, remains, sandbox

__all__ = ["serve"]

DATAGRAM = 1 << 20  # one frame from the host; INIT is the largest
PIPES = 4  # descriptors that come with FORK, and one more in level strict
PR_SET_PDEATHSIG = 1


def serve() -> start.Preloaded:
    """Serves the host. It returns in each worker, with its pipes in place, and never in the zygote itself."""
    host = _socket()
    keeper = remains.keep()
    gc.disable()  # a collection before the fork would leave holes that every child fills in memory of its own
    try:
        host.send(start.hello())
        sandbox.enter(alone=False)
        received = _receive(host)
        if received is None:
            os._exit(0)
        (kind, _, body), _ = received
        preloaded = start.preload(start.read_init_body(kind, body))
        import dspex_worker.runtime  # noqa: F401 - what a worker imports between INIT and READY
    except Exception as error:
        text, status = start.failed(error)
        host.send(text)
        sys.exit(status)
    gc.collect()
    gc.freeze()
    return _Zygote(host, preloaded, keeper).serve()


def _socket() -> socket.socket:
    try:
        host = socket.socket(fileno=process.FROM_HOST_FD)
    except OSError:
        sys.exit("a zygote is started by a worker-host, which gives it a socket as descriptor 3")
    host.set_inheritable(False)
    process.reserve()
    return host


Received = tuple[tuple[int, int, bytes], list[int]]


def _receive(host: socket.socket) -> Received | None:
    """One frame and the descriptors that came with it; None when the host is gone."""
    data, fds, _, _ = socket.recv_fds(host, DATAGRAM, PIPES + 1, socket.MSG_CMSG_CLOEXEC)
    if not data:
        return None
    found = FrameReader().feed(data)
    if len(found) != 1:
        raise frames.ProtocolError(f"a datagram must have one frame, got {len(found)}")
    return found[0], fds


# Looked up before the fork: every page that a new worker touches is copied first.
_prctl = ctypes.CDLL(None, use_errno=True).prctl


def _set_death_signal(number: int) -> None:
    """Has the kernel send this process the signal when its parent ends."""
    if _prctl(PR_SET_PDEATHSIG, number, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


class _Zygote:
    def __init__(self, host: socket.socket, preloaded: start.Preloaded, keeper: remains.Keeper) -> None:
        self._host = host
        self._keeper = keeper
        self._nonces: dict[int, str] = {}  # of the workers that have not ended, by pid
        self._preloaded = preloaded
        self._workers: dict[int, bool] = {}  # those not reaped, by pid: whether its end was reported to the host
        self._signals, self._woken = socket.socketpair()

    def serve(self) -> start.Preloaded:
        self._listen_to_signals()
        self._host.send(frame(FrameType.READY, 0, self._preloaded.ready()))
        while True:
            readable, _, _ = select.select([self._host, self._signals], [], [])
            if self._signals in readable:
                self._on_signals(self._signals.recv(4096))
            if self._host in readable and self._on_frame():
                return self._preloaded

    def _listen_to_signals(self) -> None:
        for end in (self._signals, self._woken):
            end.setblocking(False)
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda _number, _frame: None)
        # Up to here the kernel would have killed the zygote with its host. From here on it has groups of others to end first.
        _set_death_signal(signal.SIGTERM)

    def _on_signals(self, numbers: bytes) -> None:
        if signal.SIGTERM in numbers:
            self._end()
        for pid, reported in self._workers.items():
            ended = None if reported else os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is not None:
                self._workers[pid] = True
                self._keeper.ended(self._nonces.pop(pid))
                exited = ended.si_code == os.CLD_EXITED
                self._send(FrameType.EXITED, 0, [pid, ended.si_status if exited else 0, 0 if exited else ended.si_status])

    def _on_frame(self) -> bool:
        """Reports whether this process is a new worker."""
        try:
            received = _receive(self._host)
            if received is None:
                self._end()
            (kind, call, body), fds = received
            fields = bodies.read(kind, body)
        except (ValueError, frames.ProtocolError) as error:
            self._fail(str(error))
        if kind == FrameType.FORK and len(fds) == PIPES + sandbox.channels():
            nonce, *_ = fields
            return self._fork(call, nonce, fds)
        if kind != FrameType.REAP:
            self._fail(f"frame {FrameType(kind).name} with {len(fds)} descriptors is not expected")
        pid, *_ = fields
        if self._workers.pop(pid, False):
            os.waitpid(pid, 0)
        return False

    def _fork(self, call: int, nonce: str, fds: list[int]) -> bool:
        zygote = os.getpid()
        refused, pid = None, 0
        try:
            refuse_threads()
            self._keeper.began(nonce)
            pid = os.fork()
        except WorkerError as error:
            refused = error
        except OSError as error:
            refused = _refusal(f"fork: {error}")
        if not pid and refused is None:
            self._become_worker(zygote, nonce, fds)
            return True
        for fd in fds:
            os.close(fd)
        if refused is not None:
            self._send(FrameType.ERROR, call, [refused.category, refused.code, bounded(refused.message), refused.detail()])
            return False
        with contextlib.suppress(OSError):  # whoever comes first, the worker or its zygote
            os.setpgid(pid, pid)
        self._workers[pid], self._nonces[pid] = False, nonce
        self._send(FrameType.FORKED, call, [pid])
        return False

    def _become_worker(self, zygote: int, nonce: str, fds: list[int]) -> None:
        _set_death_signal(signal.SIGKILL)
        if os.getppid() != zygote:
            os._exit(process.EXIT_ALONE)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        for end in (self._host, self._signals, self._woken):
            end.close()
        self._keeper.leave()
        process.after_fork()
        for fd, target in zip(fds, (process.FROM_HOST_FD, process.TO_HOST_FD, 1, 2, process.CHANNEL_FD), strict=False):
            os.dup2(fd, target, inheritable=True)
            os.close(fd)
        remains.remark(nonce)
        # The standard library's generator does this by itself, and uuid queries the system.
        for name, part in (("numpy", "random"), ("torch", "random")):
            seed: Any = getattr(getattr(sys.modules.get(name), part, None), "seed", None)
            if seed is not None:
                seed()
        gc.enable()

    def _send(self, kind: int, call: int, body: list[Any]) -> None:
        try:
            self._host.send(frame(kind, call, wire.encode(body)))
        except OSError:
            self._end()

    def _fail(self, what: str) -> NoReturn:
        print(f"dspex zygote: protocol error: {what}", file=sys.stderr, flush=True)
        self._end(4)

    def _end(self, status: int = 0) -> NoReturn:
        """Ends every worker with all that it started, then the zygote."""
        for pid in self._workers:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
        os._exit(status)


def _refusal(message: str) -> WorkerError:
    return WorkerError("initialization", "fork_refused", message, hint="--start spawn starts workers without a zygote")


def refuse_threads() -> None:
    """Raises an error that names the threads, unless this process has one only. Threads of C libraries count."""
    names = []
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/comm", encoding="utf-8", errors="replace") as comm:
            names.append(comm.read().strip())
    if len(names) != 1:
        known = ", ".join(thread.name for thread in threading.enumerate())
        found = f"{len(names)} threads ({', '.join(sorted(names))}; of Python: {known})"
        raise _refusal(f"the zygote has {found}: a fork could inherit a lock for ever")
