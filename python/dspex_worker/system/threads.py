"""Threads for synchronous user functions, each of which can be interrupted.

`concurrent.futures` cannot: there a cancelled call goes on in its thread, and its slot looks free while it is not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from queue import SimpleQueue
from typing import Any

from dspex_worker.errors import Cancelled
from dspex_worker.system.process import end_fork

__all__ = ["Threads", "Ticket", "no_interrupt"]

_running = threading.local()  # ticket: whose function this thread runs


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Makes the error rise in the thread at its next bytecode; None takes back one that has not risen yet."""
    # Imported here: few workers ever cancel, and ctypes is not free.
    import ctypes

    target = ctypes.py_object(error) if error is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), target)


def no_interrupt() -> AbstractContextManager[Any]:
    """Holds interrupts of this thread back. Around the start of another thread, and nothing longer.

    Until a new thread runs for the first time, CPython 3.11 lists it under the number of the thread that starts it, and before
    that one. The error would be raised in the new thread, which ends, and its starter would wait for it for ever.
    """
    ticket: Ticket | None = getattr(_running, "ticket", None)
    return ticket.lock if ticket is not None else nullcontext()


class Ticket:
    """One function on its way through a thread."""

    def __init__(self, function: Callable[[], Any], done: Callable[[Any, BaseException | None], None]) -> None:
        self._function = function
        self._done = done
        self.lock = threading.RLock()  # held while an interrupt is raised, and while none may be
        self._thread = 0  # where it runs; 0 before and after
        self._interrupted = False

    def interrupt(self) -> None:
        """Raises Cancelled in the function, once. It ends when it next runs Python code; not yet begun, it never does."""
        with self.lock:
            if self._interrupted:
                return
            self._interrupted = True
            if self._thread:
                _raise_in(self._thread, Cancelled)

    def run(self) -> None:
        """Runs the function in this thread and reports its end. Cancelled may rise at any line up to the end of `_close`."""
        value: Any = None
        error: BaseException | None = None
        _running.ticket = self
        try:
            try:
                with self.lock:
                    if self._interrupted:
                        raise Cancelled
                    self._thread = threading.get_ident()
                value = self._function()
            except BaseException as raised:
                error = raised
            end_fork(error)
            self._close()
        except Cancelled as late:
            # It rose after the function had ended. It rises once only, so this time the closing is undisturbed.
            value, error = None, late
            self._close()
        self._done(value, error)

    def _close(self) -> None:
        _running.ticket = None
        with self.lock:
            self._thread = 0
            if self._interrupted:
                _raise_in(threading.get_ident(), None)


class Threads:
    """At most `limit` threads, started when needed, kept for ever. They die with the process."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queue: SimpleQueue[Ticket] = SimpleQueue()
        self._lock = threading.Lock()
        self._count = 0
        self._idle = 0

    def start(self, function: Callable[[], Any], done: Callable[[Any, BaseException | None], None]) -> Ticket:
        """Runs the function in a thread; done(value, error) is called there at its end."""
        ticket = Ticket(function, done)
        with self._lock:
            if self._idle:
                self._idle -= 1
            elif self._count < self._limit:
                self._count += 1
                threading.Thread(target=self._serve, name=f"dspex-call-{self._count}", daemon=True).start()
        self._queue.put(ticket)
        return ticket

    def _serve(self) -> None:
        while True:
            self._queue.get().run()
            with self._lock:
                self._idle += 1
