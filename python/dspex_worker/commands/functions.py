"""How the functions of an operator run: as tasks of the loop, or in threads; and where a task waits."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable
from typing import Any

from dspex_worker.registry import UserCommand
from dspex_worker.system.threads import Threads
from dspex_worker.worker import Call, Worker

__all__ = ["UserFunctions", "frames_of"]

TELL_FRAMES = 50  # of a task


class UserFunctions:
    """The functions of one worker. Those that are not asynchronous share its threads."""

    def __init__(self, worker: Worker, threads: Threads, loop: asyncio.AbstractEventLoop) -> None:
        self._worker = worker
        self._threads = threads
        self._loop = loop

    def command(self, entry: UserCommand) -> Callable[[Call], Any]:
        """The command that runs a function."""
        run = self._run_async if entry.asynchronous else self._run_in_thread

        def start(call: Call) -> Any:
            return run(call, entry, entry.check(call.args))

        return start

    def _job_context(self, call: Call) -> contextlib.AbstractContextManager[Any]:
        make = getattr(self._worker.engine, "job_context", None)
        return make(call.context()) if make is not None else contextlib.nullcontext()

    async def _run_async(self, call: Call, entry: UserCommand, args: dict[str, Any]) -> Any:
        with self._job_context(call):
            return await entry.function(**args)

    async def _run_in_thread(self, call: Call, entry: UserCommand, args: dict[str, Any]) -> Any:
        """Waits for the thread to its very end, whatever happens: the slot must not look free before."""
        ended: asyncio.Future[Any] = self._loop.create_future()
        context = contextvars.copy_context()

        def work() -> Any:
            with self._job_context(call):
                return entry.function(**args)

        def settle(value: Any, error: BaseException | None) -> None:
            if error is None:
                ended.set_result((value, None))
            else:
                ended.set_result((None, error))

        def done(value: Any, error: BaseException | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                self._loop.call_soon_threadsafe(settle, value, error)

        ticket = self._threads.start(lambda: context.run(work), done)
        call.interrupt = ticket.interrupt
        value, error = await ended
        if error is not None:
            raise error
        return value


# A coroutine, generator or asynchronous generator: its frame, and what it waits for.
_INSIDE = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await"))


def frames_of(coroutine: Any) -> list[str]:
    """Where a coroutine waits, the innermost frame first."""
    lines: list[str] = []
    waits: Any = coroutine
    while waits is not None and len(lines) < TELL_FRAMES:
        for frame_name, next_name in _INSIDE:
            frame = getattr(waits, frame_name, None)
            if frame is not None:
                lines.append(f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}')
                waits = getattr(waits, next_name)
                break
        else:
            break
    return lines[::-1]
