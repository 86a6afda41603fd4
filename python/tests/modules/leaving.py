"""A module whose jobs leave processes behind, each of which writes its number to stdout first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from dspex_worker import command


@command
def leave(how: str) -> int:
    """Starts a process in some way and answers its number."""
    return _WAYS[how]()


def _plain() -> int:
    return subprocess.Popen(["sleep", "1000"]).pid


def _session() -> int:
    return subprocess.Popen(["sleep", "1000"], start_new_session=True).pid


def _daemon() -> int:
    """As daemons do: a session of its own, its parent gone, its files closed, with no program of its own."""
    told, tell = os.pipe()
    first = os.fork()
    if not first:
        os.setsid()
        second = os.fork()
        if second:
            os.write(tell, str(second).encode())
            os._exit(0)
        os.closerange(0, 256)
        while True:
            signal.pause()
    os.waitpid(first, 0)
    return int(os.read(told, 32))


def _nested() -> int:
    """A daemon that a program starts in the background."""
    text = "import os, subprocess, sys; print(subprocess.Popen(['sleep', '1000'], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)"
    return int(subprocess.run([sys.executable, "-c", text], capture_output=True, check=True).stdout)


_WAYS = {"plain": _plain, "session": _session, "daemon": _daemon, "nested": _nested}


@command
def interrupted() -> int:
    """The status of a program that gets SIGINT."""
    return subprocess.run(["sh", "-c", "kill -INT $$; exit 0"], check=False).returncode


@command
def interrupted_fork() -> int:
    """The same of a fork."""
    pid = os.fork()
    if not pid:
        os.kill(os.getpid(), signal.SIGINT)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
