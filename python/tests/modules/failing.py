"""Commands that fail as user code does, and one that wants its worker for itself."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from dspex_worker import command

_running = 0


@command
def divide(a: int, b: int, note: str = "") -> float:
    """Raises when b is 0; note stands for what nobody may read in an error."""
    return _fraction(a, b, note)


def _fraction(a: int, b: int, note: str) -> float:
    secret = f"{note} in a local variable"
    return a / b if secret else 0.0


@command
def unlucky(note: str = "") -> None:
    """Fails in a way that another attempt may cure."""
    raise OSError("the disk is tired")


@command
def end_of_process() -> None:
    """Takes the worker with it."""
    print("a line that another job may have written", flush=True)
    os.write(2, b"canary-on-stderr\n")
    os._exit(7)


@command
async def busy(ms: int, note: str = "") -> int:
    """Waits, and tells how many waited with it at most."""
    global _running
    _running += 1
    try:
        await asyncio.sleep(ms / 1000)
        return _running
    finally:
        _running -= 1


@command(exclusive=True)
def alone(ms: int) -> dict[str, Any]:
    """Tells how many others ran in the worker before, meanwhile and after."""
    before = _running
    time.sleep(ms / 1000)
    return {"others": [before, _running], "pid": os.getpid()}
