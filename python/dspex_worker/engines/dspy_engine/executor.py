"""An executor for the event loop that runs DSPy's own tiny hops where they are, and everything else in threads.

DSPy sends pure bookkeeping (building a request, looking up a price) to the loop's default executor, four times a call.
There it costs more than it saves, and any sleep in that pool delays every call. Name lookups and the user's functions go
to real threads as ever: they would block the loop.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

__all__ = ["HopExecutor"]

_HOPS = frozenset({"dspy.clients.execution", "dspy.clients.engines.lm15_engine", "dspy.clients.capabilities"})
_THREADS = 16  # name lookups and asyncio.to_thread of user code


class HopExecutor(ThreadPoolExecutor):
    """Runs the functions of DSPy's bookkeeping at once in the calling thread."""

    def __init__(self) -> None:
        super().__init__(max_workers=_THREADS, thread_name_prefix="dspex-loop")

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As `Executor.submit`; a hop's future is done when this returns."""
        if not _is_hop(fn):
            return super().submit(fn, *args, **kwargs)
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def _is_hop(fn: Callable[..., Any]) -> bool:
    # asyncio.to_thread(f, ...) submits partial(context.run, f, ...).
    return isinstance(fn, functools.partial) and bool(fn.args) and getattr(fn.args[0], "__module__", None) in _HOPS
