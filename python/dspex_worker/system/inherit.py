"""Threads that user code starts serve the job that started them.

In a script of one's own the settings of a process are there in every thread. In a worker they are a job's, so a thread has to get
them from the thread that starts it. What is handed to a pool of threads takes them along, since the pool may be older than the
job. Only the variables named here travel: other context variables start empty in a thread, as ever.
"""

from __future__ import annotations

import concurrent.futures.thread
import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

from dspex_worker.registry import job_var
from dspex_worker.spans import span_var, spans_var
from dspex_worker.system.threads import no_interrupt

__all__ = ["inherited", "install"]

inherited: list[ContextVar[Any]] = [job_var, spans_var, span_var]  # an engine adds its own

_pool_worker = concurrent.futures.thread._worker
_installed = False


def _taken() -> list[tuple[ContextVar[Any], Any]]:
    return [(var, value) for var in inherited if (value := var.get(None)) is not None]


def _run_with(values: list[tuple[ContextVar[Any], Any]], function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    tokens = [(var, var.set(value)) for var, value in values]
    try:
        return function(*args, **kwargs)
    finally:
        for var, token in tokens:
            var.reset(token)


def install() -> None:
    """Makes threads and thread pools of this process hand on the job. Does so once."""
    global _installed
    if _installed:
        return
    _installed = True
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit

    @functools.wraps(start)
    def start_in_job(self: threading.Thread) -> None:
        # A pool's thread outlives the job that it was started in.
        if getattr(self, "_target", None) is not _pool_worker and (values := _taken()):
            self.run = functools.partial(_run_with, values, self.run)  # type: ignore[method-assign]
        with no_interrupt():
            start(self)

    @functools.wraps(submit)  # type: ignore[arg-type]
    def submit_in_job(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if values := _taken():
            return submit(self, _run_with, values, fn, *args, **kwargs)
        return submit(self, fn, *args, **kwargs)

    threading.Thread.start = start_in_job  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = submit_in_job  # type: ignore[method-assign, assignment]
