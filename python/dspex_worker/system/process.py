"""What the worker does as a process: its pipes, its group, its memory, and its end when the host is gone."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import sys
import threading
import traceback
from typing import Any, NoReturn

__all__ = [
    "CHANNEL_FD",
    "EXIT_ALONE",
    "FROM_HOST_FD",
    "TO_HOST_FD",
    "after_fork",
    "die",
    "end_fork",
    "limit",
    "memory",
    "own_group",
    "reserve",
    "rss_bytes",
    "seal",
    "unmoved",
    "watch_host",
]

FROM_HOST_FD = 3
TO_HOST_FD = 4
CHANNEL_FD = 5  # in level strict of the sandbox: where connections to language models are requested

EXIT_ALONE = 5  # status of a process whose host is gone

_PAGE = os.sysconf("SC_PAGE_SIZE")
_HAS_PROC = os.path.exists("/proc/self/statm")
_statm = -1
_forked = False  # this process is a fork of a worker: it has no host


def reserve() -> None:
    """Takes the numbers of what workers will have and this process has not: a file that a module opens at its import and keeps
    would get one, and be overwritten."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (TO_HOST_FD, CHANNEL_FD):
        if fd != null:
            os.dup2(null, fd, inheritable=False)
    if null not in (TO_HOST_FD, CHANNEL_FD):
        os.close(null)


def after_fork() -> None:
    """Drops what belongs to the process that this one was forked from."""
    global _statm
    if _statm >= 0:
        os.close(_statm)
        _statm = -1


def seal() -> None:
    """Keeps the protocol to this process: programs that user code starts inherit no pipe, forks lose theirs, stdin is empty."""
    for fd in (FROM_HOST_FD, TO_HOST_FD):
        os.set_inheritable(fd, False)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    # A fork (multiprocessing) that held 4 could write into the middle of a frame; one that held 3 could steal calls.
    os.register_at_fork(after_in_child=_lose_pipes)


def _lose_pipes() -> None:
    global _forked
    _forked = True
    after_fork()
    if signal.getsignal(signal.SIGINT) is unmoved:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a fork of any program
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (FROM_HOST_FD, TO_HOST_FD):
        os.dup2(null, fd, inheritable=False)
    os.close(null)


def end_fork(error: BaseException | None) -> None:
    """In a process that user code has forked from a worker: ends it, with the status that a script would have. Elsewhere nothing.

    Such a child has copies of the worker's loop and threads above it, which must not go on in two processes.
    """
    if not _forked:
        return
    status = 0
    if isinstance(error, SystemExit):
        code = error.code
        status = code if isinstance(code, int) else 0 if code is None else 1
    elif error is not None:
        status = 1
        with contextlib.suppress(BaseException):
            traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
    os._exit(status & 0xFF)


def unmoved(_number: int, _frame: object) -> None:
    """Handles a signal by doing nothing."""


def own_group() -> None:
    """Makes sure that killing the own process group hits nobody else's, however the worker was started."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)


def die() -> NoReturn:
    """The host is gone: ends this process and all that it started. Nobody is left to get an answer.

    A fork of a worker has no host from the start; if user code lets it come here it ends alone.
    """
    if not _forked:
        with contextlib.suppress(OSError):
            os.killpg(0, signal.SIGKILL)
    os._exit(EXIT_ALONE)


def limit() -> None:
    """No core dumps, which would hold prompts and keys."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def watch_host() -> None:
    """Starts the thread that ends the process when the host's end of pipe 3 closes.

    The event loop sees that, too, but not while user code blocks it. The thread waits for the hang-up only and never reads.
    """

    def wait() -> None:
        poll = select.poll()
        poll.register(FROM_HOST_FD, 0)
        while not any(event & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, event in poll.poll()):
            pass
        die()

    threading.Thread(target=wait, name="dspex-host-watch", daemon=True).start()


def _pages() -> tuple[int, int]:
    """Virtual and resident size in pages; reads a file that stays open, because every PONG reads it."""
    global _statm
    if _statm < 0:
        _statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    virtual, resident = os.pread(_statm, 64, 0).split(b" ", 2)[:2]
    return int(virtual), int(resident)


def rss_bytes() -> int:
    """Resident memory; where there is no /proc, its peak."""
    if _HAS_PROC:
        return _pages()[1] * _PAGE
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory() -> dict[str, Any]:
    """Resident and virtual bytes, and the share of the machine's memory that is resident, in percent."""
    rss = rss_bytes()
    total = os.sysconf("SC_PHYS_PAGES") * _PAGE
    virtual = _pages()[0] * _PAGE if _HAS_PROC else rss
    return {"rss": rss, "vms": virtual, "percent": round(100 * rss / total, 2)}
