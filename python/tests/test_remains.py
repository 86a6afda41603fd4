"""The keeper ends what jobs leave behind (python/dspex_worker/system/remains.py); test/procs does it with real hosts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from dspex_worker.system import remains

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the keeper needs Linux")


def test_a_process_that_becomes_another_program_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    looks = 0

    def marks(pid: int) -> set[bytes] | None:
        nonlocal looks
        looks += 1
        return None if looks <= 100 else {b"mark"}

    monkeypatch.setattr(remains, "_others", lambda: [child.pid] if child.poll() is None else [])
    monkeypatch.setattr(remains, "_marks", marks)
    monkeypatch.setattr(remains, "_PAUSE", 0)
    try:
        remains._sweep({b"mark"})
        assert child.wait(timeout=60) == -signal.SIGKILL
    finally:
        child.kill()
        child.wait()


def test_a_process_that_is_dead_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie
    monkeypatch.setattr(remains, "_others", lambda: [child.pid])
    monkeypatch.setattr(remains, "_PAUSE", 3600)
    remains._sweep({b"mark"})
    child.wait()
