"""Synchronous user code beside the event loop: in threads that can be interrupted, with the context of the job."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable
from typing import Any

from dspex_worker.errors import Cancelled
from dspex_worker.system.threads import Threads

__all__ = ["Blocking"]

_log = logging.getLogger("dspex.worker")


class Blocking:
    """At most this many functions at once; more wait their turn, and the first time that they do is logged."""

    def __init__(self, what: str, limit: int) -> None:
        self._what = what
        self._limit = limit
        self._threads = Threads(limit)
        self._running = 0
        self._told = False

    async def run(self, function: Callable[[], Any]) -> Any:
        """The function's result. A cancel interrupts it and waits: while it runs, the slot is not free."""
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        ended: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()

        def settle(value: Any, error: BaseException | None) -> None:
            loop.call_soon_threadsafe(ended.set_result, (value, error))

        self._running += 1
        if self._running > self._limit and not self._told:
            self._told = True
            _log.warning("%d %s run at once in this worker, others wait: make them async, or run more workers", self._limit, self._what)
        try:
            ticket = self._threads.start(lambda: context.run(function), settle)
            try:
                await asyncio.wait([ended])
            except asyncio.CancelledError:
                ticket.interrupt()
                await asyncio.wait([ended])
                raise
        finally:
            self._running -= 1
        value, error = ended.result()
        if isinstance(error, Cancelled):
            raise asyncio.CancelledError
        if isinstance(error, StopIteration):  # no task can end with one
            raise RuntimeError(f"{self._what}: StopIteration was raised") from error
        if error is not None:
            raise error
        return value
