"""The worker's life: HELLO, INIT, READY, then an event loop on the main thread until SHUTDOWN or the end of the host.

One reader callback takes all frames that lie in pipe 3, answers what can be answered at once, and writes all answers with
one write. What takes time is a task; a synchronous user function is a task that waits for a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable
from types import CoroutineType
from typing import Any

from dspex_worker.commands.functions import UserFunctions, frames_of
from dspex_worker.commands.pushing import take
from dspex_worker.commands.table import Command, unknown
from dspex_worker.errors import Cancelled, WorkerError, describe, is_out_of_memory
from dspex_worker.protocol import bodies, frames, wire
from dspex_worker.protocol.frames import FrameType
from dspex_worker.registry import job_var
from dspex_worker.spans import spans_var
from dspex_worker.start import Started, send_all
from dspex_worker.system import inherit, logs, process
from dspex_worker.system.blocked import BlockWatch
from dspex_worker.system.threads import Threads
from dspex_worker.worker import Call, bad_option, error_body

__all__ = ["Runtime"]

READ_MIN = 64 << 10  # one read between frames: a larger buffer would cost more than the frames in it
READ_MAX = 1 << 20  # one read inside of a large frame
WAITING = 10_000  # frames that wait to be written: then log records are dropped and counted, and partial output waits
CANCEL_GRACE = 1.0  # seconds that cancelled calls have before the process ends without them
TELL_AFTER = 1.0  # seconds after which a cancelled task that goes on has its place written to stderr; the host kills after 2

_CALL, _RESULT = int(FrameType.CALL), int(FrameType.RESULT)  # plain integers compare and pack faster


class Runtime:
    """The loop and the calls in it."""

    def __init__(self, started: Started) -> None:
        self._worker = started.worker
        self._ready = started.preloaded.ready
        self._reader = started.reader
        self._early = started.early
        self._max_frame = started.worker.config.max_frame
        self._worker.leave = self._leave
        self._loop = asyncio.new_event_loop()
        inherit.install()
        functions = UserFunctions(self._worker, Threads(started.preloaded.slots), self._loop)
        self._table = dict(started.preloaded.table)
        for entry in started.preloaded.functions:
            self._table[entry.name] = Command(functions.command(entry), entry.exclusive)
        self._calls: dict[int, Call] = {}
        self._out: deque[bytes] = deque()
        self._logs_lost = 0
        self._flushing = False
        self._stopping = ""
        self._leaving = False  # requested a replacement
        self._main = threading.get_ident()
        self._watch = BlockWatch(self._loop, self._runs)

    def serve(self) -> None:
        """Sends READY and serves until the end; on return BYE is written."""
        loop = self._loop
        asyncio.set_event_loop(loop)
        logs.install(self._send_log)
        os.set_blocking(process.FROM_HOST_FD, False)
        loop.add_signal_handler(signal.SIGTERM, self._stop, "SIGTERM", CANCEL_GRACE)
        self._watch.start()
        self._send(FrameType.READY, 0, self._ready())
        loop.call_soon(self._take, self._early)
        loop.add_reader(process.FROM_HOST_FD, self._readable)
        try:
            while not self._stopping:  # code of a job may stop the loop, on which all others run
                loop.run_forever()
            with contextlib.suppress(Exception):
                loop.run_until_complete(asyncio.wait_for(self._worker.engine.close(), CANCEL_GRACE))
            for call in self._calls.values():
                self._fail(call, call.id, _ending())
            self._send(FrameType.BYE, 0, wire.encode([self._stopping]))
            self._flush()
        finally:
            loop.remove_reader(process.FROM_HOST_FD)

    # ---- frames in

    def _readable(self) -> None:
        size = READ_MIN if self._reader.missing <= READ_MIN else READ_MAX
        try:
            data = os.read(process.FROM_HOST_FD, size)
        except BlockingIOError:
            return
        if not data:
            process.die()
        try:
            found = self._reader.feed(data)
            if found:
                self._take(found)
        except frames.ProtocolError as error:
            self._protocol_error(str(error))

    def _take(self, found: list[tuple[int, int, bytes]]) -> None:
        for kind, call_id, body in found:
            if kind == _CALL:
                self._call(call_id, body)
            else:
                try:
                    self._control(kind, call_id, bodies.read(kind, body))
                except ValueError as error:
                    self._protocol_error(f"frame {FrameType(kind).name}: {error}")
        if self._out:
            self._flush()

    def _control(self, kind: int, call_id: int, body: Any) -> None:
        if kind == FrameType.PING:
            stamp, *_ = body
            pong = [stamp, process.rss_bytes(), len(self._calls)]
            self._send(FrameType.PONG, call_id, wire.encode(pong))
        elif kind == FrameType.CANCEL:
            reason, *_ = body
            self._cancel(call_id, reason)
        elif kind == FrameType.DROP:
            session, *_ = body
            self._worker.sessions.drop(session)
            self._worker.instances.drop(session)
        elif kind == FrameType.LM:
            key, profile, *_ = body
            self._worker.add_profile(key, profile)
        elif kind == FrameType.PROGRAM:
            program_id, version, record, *_ = body
            take(self._worker, program_id, version, record)
        elif kind == FrameType.SHUTDOWN:
            grace_ms, *_ = body
            self._stop("shutdown", grace_ms / 1000)
        else:
            raise ValueError("it is not expected after READY")

    def _protocol_error(self, what: str) -> None:
        """There is no way back into a broken stream: reports why on stderr and ends."""
        self._flush()
        print(f"dspex worker: protocol error: {what}", file=sys.stderr, flush=True)
        os._exit(4)

    # ---- calls

    def _call(self, call_id: int, body: bytes) -> None:
        call: Call | None = None
        try:
            if self._stopping:
                raise _ending()
            try:
                fields = bodies.read_call(body)
            except ValueError as error:
                raise _bad_call(str(error)) from None
            if call_id in self._calls:
                raise _bad_call("its id is in use")
            call = Call(self._worker, call_id, fields, self._send_chunk)
            self._worker.commands += 1
            entry = self._table.get(call.command)
            if entry is None:
                raise unknown(call.command, sorted(self._table))
            if call.options:
                _refuse_options(call, entry)
            value = entry.run(call)
            if type(value) is CoroutineType:
                self._spawn(call, value)
            else:
                self._finish(call, value)
        except Exception as error:
            self._fail(call, call_id, error)

    def _spawn(self, call: Call, coroutine: Any) -> None:
        context = contextvars.copy_context()
        context.run(job_var.set, call.as_job())
        if call.spans is not None:
            context.run(spans_var.set, call.spans)
        call.coroutine = coroutine
        call.task = self._loop.create_task(_guarded(coroutine), context=context)
        call.task.add_done_callback(lambda task: self._ended(call, task))
        self._calls[call.id] = call
        self._watch.busy(1)

    def _ended(self, call: Call, task: asyncio.Task[Any]) -> None:
        """Every end of a task comes here, also that of one which was cancelled before its first step."""
        self._calls.pop(call.id, None)
        self._watch.busy(len(self._calls))
        with contextlib.suppress(BaseException):  # user code may refuse to be closed
            call.coroutine.close()
        error = None if task.cancelled() else task.exception()
        if call.cancelled == _ENDING:
            self._fail(call, call.id, _ending())  # nobody has given the job up: another worker may run it
        elif call.cancelled is not None:
            reason = call.cancelled
            category = "timeout" if "timeout" in reason or "deadline" in reason else "system_error"
            self._fail(call, call.id, WorkerError(category, "cancelled", f"the call was cancelled: {reason}"))
        elif task.cancelled() or isinstance(error, (asyncio.CancelledError, Cancelled)):
            self._fail(call, call.id, WorkerError("python", "user_error", "the code of the call cancelled itself"))
        elif error is not None:
            self._fail(call, call.id, error)
        else:
            self._finish(call, task.result())
        self._flush_soon()
        if self._stopping and not self._calls:
            self._loop.stop()

    def _runs(self) -> str:
        """What the loop is at, as far as another thread can see."""
        task = asyncio.current_task(self._loop)
        for call in list(self._calls.values()):
            if call.task is task or len(self._calls) == 1:
                program = call.args.get("program_id")
                return f"the program {program[:128]}" if isinstance(program, str) else f"the command {call.command}"
        return "a task of a job"

    def _finish(self, call: Call, value: Any) -> None:
        try:
            body = call.result_body(value)
            if len(body) > self._max_frame:
                raise WorkerError("python", "encode_error", f"the result has {len(body)} bytes, at most {self._max_frame} fit into a frame")
        except wire.EncodeError as error:
            place = "result" + error.path.removeprefix("[0]")
            failure = WorkerError("python", "encode_error", f"cannot send {place}: {error.problem}")
            self._fail(call, call.id, failure)
        except BaseException as error:  # whatever an object of user code does when it is looked at
            self._fail(call, call.id, error)
        else:
            call.ended = True
            self._send(_RESULT, call.id, body)

    def _fail(self, call: Call | None, call_id: int, error: BaseException) -> None:
        self._worker.errors += 1
        if call is not None:
            call.ended = True
        if is_out_of_memory(error):
            self._leave("out of memory")  # what failed for lack of memory may have left anything half done
        self._send(FrameType.ERROR, call_id, error_body(describe(error), self._max_frame, call))

    def _cancel(self, call_id: int, reason: str) -> None:
        call = self._calls.get(call_id)
        if call is None or call.cancelled is not None:
            return
        call.cancelled = reason
        if call.interrupt is not None:
            call.interrupt()
        else:
            call.task.cancel()
            self._loop.call_later(TELL_AFTER, self._tell_where, call)
        if call.let_go is not None:
            call.let_go()

    def _tell_where(self, call: Call) -> None:
        """A task that ignores its cancellation is in no thread's stack: reports where it waits, in the form of faulthandler."""
        if call.id in self._calls:
            lines = [f"Task of call {call.id} (most recent call first):", *frames_of(call.coroutine)]
            print("\n".join(lines), file=sys.stderr, flush=True)

    # ---- frames out

    def _send(self, kind: int, call_id: int, body: bytes) -> None:
        self._out.append(frames.frame(kind, call_id, body))

    def _send_chunk(self, call: Call, body: bytes) -> Callable[[], None]:
        """Queues a chunk; what it returns is to be called after it, by the same thread."""
        self._send(FrameType.CHUNK, call.id, body)
        return self._pace

    def _pace(self) -> None:
        if len(self._out) < WAITING:
            self._flush_soon()
        elif threading.get_ident() == self._main:
            self._flush()
        else:
            # A thread that writes more than the host reads has to wait for the loop.
            written = threading.Event()
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._flush)
                self._loop.call_soon_threadsafe(written.set)
                written.wait()

    def _send_log(self, body: bytes) -> None:
        if len(self._out) >= WAITING:
            self._logs_lost += 1
            return
        lost, self._logs_lost = self._logs_lost, 0
        if lost:
            self._send(FrameType.LOG, 0, wire.encode(["warning", "dspex.worker", "log records lost", 0, {"count": str(lost)}]))
        self._send(FrameType.LOG, 0, body)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if threading.get_ident() != self._main:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody reads any more
                self._loop.call_soon_threadsafe(self._flush)
        elif not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Writes all waiting frames. Other threads may append meanwhile; only this thread takes away."""
        self._flushing = False
        waiting = self._out
        while waiting:
            send_all(waiting.popleft() if len(waiting) == 1 else b"".join(waiting.popleft() for _ in range(len(waiting))))

    # ---- the end

    def _leave(self, reason: str) -> None:
        """Requests its replacement and goes on: the host sends no more calls, and SHUTDOWN when those on their way have ended."""
        if not self._leaving:
            self._leaving = True
            self._send(FrameType.BYE, 0, wire.encode([reason]))

    def _stop(self, reason: str, grace: float) -> None:
        """Takes no more calls; ends when those that run have ended, or after the grace without them."""
        if self._stopping:
            return
        self._stopping = reason
        if not self._calls:
            self._loop.call_soon(self._loop.stop)
            return
        self._loop.call_later(grace, self._cancel_all)

    def _cancel_all(self) -> None:
        for call_id in list(self._calls):
            self._cancel(call_id, _ENDING)
        self._loop.call_later(CANCEL_GRACE, self._loop.stop)


def _bad_call(why: str) -> WorkerError:
    return WorkerError("communication", "bad_frame", f"CALL: {why}", retryable=True)


_ENDING = "the worker is ending"


def _ending() -> WorkerError:
    return WorkerError("connection", "shutting_down", _ENDING, retryable=True)


async def _guarded(coroutine: Any) -> Any:
    """Keeps what ends a Python program from ending the event loop."""
    try:
        value = await coroutine
    except BaseException as error:
        process.end_fork(error)
        if isinstance(error, (SystemExit, KeyboardInterrupt, Cancelled)):
            raise describe(error) from None
        raise
    process.end_fork(None)
    return value


def _refuse_options(call: Call, entry: Command) -> None:
    """Refuses options that would have no effect, above all set_lm with options.temperature instead of its argument."""
    for takes, names, where in (
        (entry.shapes_programs, ("signature", "outputs", "module"), "predict"),
        (entry.asks_model, ("lm", "temperature"), "predict, execute_program and commands of your own"),
    ):
        extra = [] if takes else [name for name in names if name in call.options]
        if extra:
            text = f"{call.command}: options.{', options.'.join(extra)} would have no effect"
            raise bad_option(text, extra[0], f"this option with {where} only")
