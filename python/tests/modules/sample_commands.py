"""What an operator's module may look like; the tests import it into workers."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from typing import Any, Literal

from dspex_worker import WorkerError, command, current_job, program

log = logging.getLogger("sample")


@command
def add(a: int, b: int = 1, unit: Literal["m", "km"] = "m") -> dict[str, Any]:
    return {"sum": a + b, "unit": unit}


@command("who_am_i")
async def identify() -> dict[str, Any]:
    await asyncio.sleep(0)
    job = current_job()
    return {"job": job.id, "attempt": job.attempt, "session": job.session, "worker": job.worker, "command": job.command}


@command
def who_in_thread() -> dict[str, Any]:
    job = current_job()
    return {"job": job.id, "session": job.session, "main": threading.current_thread() is threading.main_thread()}


@command(exclusive=True)
def alone() -> str:
    return "done"


@command(inputs={"size": int, "names": list[str]})
def loose(**values: Any) -> Any:
    return values


@command
def fail(kind: str) -> None:
    secret_looking_local = "the value of a local"
    if kind == "worker_error":
        raise WorkerError("resource_error", "quota", "no quota left", hint="buy more", retryable=True, retry_after_ms=1500)
    if kind == "exit":
        sys.exit(7)
    if kind == "chained":
        try:
            raise KeyError(secret_looking_local)
        except KeyError as error:
            raise OSError("outer") from error
    raise {"value": ValueError, "memory": MemoryError, "os": OSError}[kind]("it broke")


@command
async def fail_async(kind: str) -> None:
    if kind == "exit":
        sys.exit(7)
    if kind == "cancel_self":
        raise asyncio.CancelledError
    raise ValueError("it broke")


@command
def busy(ready: bool = True) -> str:
    current_job().emit("running")
    while ready:
        pass
    return "never"


@command
def busy_polling() -> str:
    job = current_job()
    job.emit("running")
    while not job.cancelled:
        time.sleep(0)
    return "stopped by itself"


@command
async def stubborn() -> str:
    current_job().emit("running")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return "swallowed"
    return "never"


@command
def flood(n: int) -> int:
    job = current_job()
    for index in range(n):
        job.emit(str(index))
    return n


@command
def say(text: str, level: str = "info") -> str:
    log.log(logging.getLevelNamesMapping()[level.upper()], "said %s", text)
    return text


@command
def give(what: str) -> Any:
    return {"set": {"b", "a"}, "object": {"deep": [1, object()]}, "big": "x" * 100_000, "surrogate": "\ud800", "keys": {1: 2}}[what]


@command
def fork_and_write() -> int:
    pid = os.fork()
    if pid == 0:
        os.write(4, b"garbage in the middle of frames")
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@command
def child_process() -> int:
    import subprocess

    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid


@program("shout")
class Shout:
    """A module as far as the stub engine is concerned."""

    def forward(self, text: str) -> dict[str, Any]:
        return {"loud": text.upper()}


@command
async def block_loop(fifo: str) -> None:
    """Tells through the pipe that it runs, then never gives the loop back."""
    with open(fifo, "w") as signal:
        signal.write("blocked")
    while True:
        time.sleep(600)
