"""Ends what jobs leave behind, when their worker is gone.

A process group is not enough: a program that a job starts can leave it (`setsid`, a daemon), and a worker that the kernel kills
with its host ends nothing itself. So every worker has a mark in its environment, its nonce, which all that it starts inherits.
Beside each zygote, and each worker that was spawned, runs a keeper: a small process outside of the sandbox. It detects their end,
whatever ended them, and kills everything that carries the mark. It needs Linux; elsewhere there is none.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from typing import NoReturn

__all__ = ["Keeper", "keep", "remark"]

MARK = "DSPEX_NONCE"
_PREFIX = MARK.encode() + b"="
_ROUNDS = 1000  # of looking: what forks faster than it is killed
_LOOKS = 500  # at a process without an environment
_PAUSE = 0.01  # s, before it is looked at again
_YOUNG = 10  # s


class Keeper:
    """The other end of the keeper's pipe."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def began(self, nonce: str) -> None:
        """A worker with this mark is about to start."""
        self._say("+", nonce)

    def ended(self, nonce: str) -> None:
        """It has ended: what carries its mark goes."""
        self._say("-", nonce)

    def leave(self) -> None:
        """In a fork: the pipe is not its own."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    def _say(self, sign: str, nonce: str) -> None:
        if self._pipe >= 0:
            with contextlib.suppress(OSError):  # somebody has killed the keeper
                os.write(self._pipe, f"{sign}{nonce}\n".encode())


def keep() -> Keeper:
    """Starts the keeper of this process, while there is one thread and no sandbox."""
    nonce = os.environ.get(MARK, "")
    if not nonce or sys.platform != "linux":
        return Keeper(-1)
    theirs, ours = os.pipe()
    owner = os.pidfd_open(os.getpid())
    first = os.fork()
    if not first:
        os.close(ours)
        _detach(theirs, owner, nonce)
    os.close(theirs)
    os.close(owner)
    os.waitpid(first, 0)  # the keeper is nobody's child: os.wait() in a job does not meet it
    return Keeper(ours)


def _detach(pipe: int, owner: int, nonce: str) -> NoReturn:
    os.setsid()  # the end of the worker's group is not its own
    if os.fork():
        os._exit(0)
    os.dup2(pipe, 0)
    os.dup2(owner, 1)
    os.closerange(3, min(os.sysconf("SC_OPEN_MAX"), 1 << 16))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(BaseException):
        _watch({nonce.encode()})
    os._exit(0)


def _watch(living: set[bytes]) -> None:
    """Serves the pipe, 0, until the owner has ended, 1: its forks may hold the pipe open, and its code may close it."""
    rest = b""
    poll = select.poll()
    for fd in (0, 1):
        poll.register(fd, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        data = os.read(0, 1 << 16) if 0 in ready else b""
        *lines, rest = (rest + data).split(b"\n")
        gone = {line[1:] for line in lines if line[:1] == b"-"}
        living.update(line[1:] for line in lines if line[:1] == b"+")
        living -= gone
        if gone:
            _sweep(gone)
        if 0 in ready and not data:
            poll.unregister(0)
        elif 1 in ready and not data:
            break
    _sweep(living)


def _sweep(marks: set[bytes]) -> None:
    """Kills all that carries one of the marks, and reports what it was.

    Whoever is found without a mark never gets one. So it looks until no process is new: one that was listed may have forked another
    and be gone when it is looked at.
    """
    ended: dict[int, str] = {}
    looked: dict[int, int] = {}  # at those without a mark: how often
    for _ in range(_ROUNDS):
        new = [pid for pid in _others() if looked.get(pid, 0) < _LOOKS]
        if not new:
            break
        waits = False
        for pid in new:
            found = _marks(pid)
            if found is None:
                looked[pid] = looked.get(pid, 0) + _counts(pid)
                waits = waits or looked[pid] < _LOOKS
            elif not found & marks:
                looked[pid] = _LOOKS
            else:
                ended.setdefault(pid, _name(pid))
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        if waits:
            time.sleep(_PAUSE)
    if ended:
        names = ", ".join(f"{pid} ({name})" for pid, name in list(ended.items())[:8])
        with contextlib.suppress(OSError):
            os.write(2, f"dspex: {len(ended)} processes outlived their worker and were killed: {names}\n".encode())


def _others() -> list[int]:
    me = os.getpid()
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != me]


def _marks(pid: int) -> set[bytes] | None:
    """The marks in the environment of a process, none of another user's; None if it has no environment: it is dead, the kernel's, or
    becomes another program."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            text = file.read()
    except PermissionError:
        return set()
    except OSError:
        return None
    return {v[len(_PREFIX) :] for v in text.split(b"\0") if v.startswith(_PREFIX)} if text else None


def _counts(pid: int) -> int:
    """How much a look counts that has found no environment. Without memory there never is one. A young process may be about to become
    another program, which takes long on a busy machine; an old one seldom is."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        state, began, memory = fields[0], int(fields[19]) / os.sysconf("SC_CLK_TCK"), fields[20] != "0"
    except (OSError, IndexError, ValueError):
        return _LOOKS
    if state in "ZX" or not memory:
        return _LOOKS
    return 1 if time.clock_gettime(time.CLOCK_BOOTTIME) - began < _YOUNG else _LOOKS // 20


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "?"


def _place() -> tuple[int, int]:
    """Where the value of the mark lies that others see, and its length; 0 where that is unknown."""
    try:
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        begin, end = int(fields[47]), int(fields[48])  # env_start, env_end
        found = b"\0" + ctypes.string_at(begin, end - begin)
    except (OSError, ValueError, IndexError):
        return 0, 0
    at = found.find(b"\0" + _PREFIX)
    if at < 0:
        return 0, 0
    at += len(_PREFIX)  # the NUL before it counts for the one that is not there in memory
    return begin + at, found.index(b"\0", at + 1) - at - 1


# Of the process that forks workers: the same address in each of them.
_where = _place() if sys.platform == "linux" else (0, 0)


def remark(nonce: str) -> None:
    """In a worker that was forked: its mark in place of its zygote's, for programs that it starts and for forks of its own."""
    os.environ[MARK] = nonce
    where, length = _where
    value = nonce.encode()
    if where and len(value) == length:
        ctypes.memmove(where, value, length)
