"""Runs DSPy's own tiny hops where they are, and everything else in threads.

DSPy sends pure bookkeeping (building a request, looking up a price) to the loop's default executor, four times a call.
There it costs more than it saves: a thread's turn, and a write that wakes the loop up. And any sleep in that pool would delay
every call. Name lookups and the user's functions go to real threads as ever: they would block the loop.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

__all__ = ["inline_hops"]

_HOPS = frozenset({"dspy.clients.execution", "dspy.clients.engines.lm15_engine", "dspy.clients.capabilities"})
_THREADS = 16  # name lookups and asyncio.to_thread of user code


def inline_hops(loop: asyncio.AbstractEventLoop) -> None:
    """Makes the loop run DSPy's bookkeeping at once, in its own thread."""
    in_thread = loop.run_in_executor

    def run(executor: Any, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        if executor is not None or not _is_hop(function):
            return in_thread(executor, function, *args)
        ended = loop.create_future()
        try:
            ended.set_result(function(*args))
        except StopIteration as error:  # no future takes one
            ended.set_exception(RuntimeError(error))
        except Exception as error:
            ended.set_exception(error)
        return ended

    loop.set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="dspex-loop"))
    loop.run_in_executor = run  # type: ignore[method-assign, assignment]


def _is_hop(function: Callable[..., Any]) -> bool:
    # asyncio.to_thread(f, ...) requests partial(context.run, f, ...).
    return isinstance(function, functools.partial) and bool(function.args) and getattr(function.args[0], "__module__", None) in _HOPS
