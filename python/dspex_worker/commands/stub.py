"""Commands that only a worker with the stub engine has: what tests need to see jobs run, wait, fail and die."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import replace
from typing import Any

from dspex_worker.errors import CATEGORIES, WorkerError, category_of
from dspex_worker.registry import read_function
from dspex_worker.system.process import rss_bytes
from dspex_worker.worker import Call, bad_input

__all__ = ["INLINE", "SPIN"]

_held: list[bytearray] = []


def _number(call: Call, name: str, default: int | None = None) -> int:
    value = call.args.get(name, default)
    if type(value) is not int or value < 0:
        raise bad_input(f"{call.command}: {name} is out of range", f"args.{name}", "an integer that is not negative")
    return value


def echo(call: Call) -> Any:
    """Answers its arguments."""
    return call.args


def append(call: Call) -> Any:
    """Adds x to the session's list and answers the whole list, so that a test sees what was applied, and in which order."""
    if "x" not in call.args:
        raise bad_input("append: x is missing", "args.x", "any value")
    state = call.state
    items = [*(state.data.get("list", []) if state is not None else []), call.args["x"]]
    if state is not None:
        call.state = replace(state, data={**state.data, "list": items})
    return {"list": items, "job": call.job, "attempt": call.attempt}


async def _sleep(seconds: float, value: Any) -> Any:
    await asyncio.sleep(seconds)
    return value


def sleep(call: Call) -> Any:
    """Waits without holding anything up; can be cancelled."""
    ms = _number(call, "ms")
    return _sleep(ms / 1000, {"slept_ms": ms})


def spin(ms: int) -> dict[str, Any]:
    """Burns CPU in a thread."""
    end = time.perf_counter() + ms / 1000
    rounds = 0
    while time.perf_counter() < end:
        rounds += 1
    return {"spun_ms": ms, "rounds": rounds}


def boom(call: Call) -> Any:
    """Fails as configured: always, or in the first `times` attempts."""
    args = call.args
    times = args.get("times")
    if times is not None and call.attempt > _number(call, "times"):
        return {"attempt": call.attempt}
    category = category_of(str(args.get("category", "python")))
    if category is None:
        raise bad_input("boom: unknown category", "args.category", ", ".join(sorted(CATEGORIES)))
    raise WorkerError(
        category,
        str(args.get("code", "boom")),
        str(args.get("message", "boom")),
        retryable=bool(args.get("retryable", False)),
        retry_after_ms=args.get("retry_after_ms"),
    )


def stream(call: Call) -> Any:
    """Sends n pieces of partial output to a caller that requested it."""
    count = _number(call, "n")
    if call.streams:
        for index in range(count):
            call.emit("text", f"piece {index} ")
    return {"chunks": count if call.streams else 0}


def print_text(call: Call) -> Any:
    """Prints, as user code does."""
    text = str(call.args.get("text", ""))
    print(text, file=sys.stderr if call.args.get("stderr") else sys.stdout, flush=True)
    return {"printed": len(text)}


def exit_process(call: Call) -> Any:
    """Ends the process at once, with no answer."""
    os._exit(_number(call, "code", 1))


def kill(call: Call) -> Any:
    """Sends the process a signal; answers if it outlives that."""
    number = _number(call, "signal", 9)
    os.kill(os.getpid(), number)
    return {"signal": number}


def alloc(call: Call) -> Any:
    """Takes memory, touches it, keeps it."""
    mb = _number(call, "mb")
    _held.append(bytearray(b"\x01") * (mb << 20))
    return {"mb": mb, "rss_bytes": rss_bytes()}


def hold(call: Call) -> Any:
    """Blocks the event loop: no ping is answered meanwhile."""
    ms = _number(call, "ms")
    time.sleep(ms / 1000)
    return {"held_ms": ms}


INLINE = {
    "echo": echo,
    "append": append,
    "sleep": sleep,
    "boom": boom,
    "stream": stream,
    "print": print_text,
    "exit": exit_process,
    "kill": kill,
    "alloc": alloc,
    "hold": hold,
}
SPIN = read_function("spin", spin, exclusive=True)
