"""The state of a worker, and one call to it. No input or output here: the runtime does that.

A Call begins as the fields of a CALL frame and ends as the body of one RESULT or ERROR.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from dspex_worker.config import Config
from dspex_worker.engines import Context, Engine
from dspex_worker.errors import WorkerError, bounded, secrets
from dspex_worker.instances import Instances
from dspex_worker.protocol import wire
from dspex_worker.pushed import Pushed
from dspex_worker.registry import Job, UserProgram
from dspex_worker.spans import TEXTS, Spans
from dspex_worker.state import Sessions, State, now_text

__all__ = ["Call", "Worker", "bad_input", "bad_option"]

CHUNK_MAX = 64 << 10  # characters of one partial output: it has to fit into a message of the broker, whatever they take as JSON
_numbering = threading.Lock()  # the numbers of partial outputs follow each other, whatever thread emits


def bad_input(message: str, path: str, expected: str) -> WorkerError:
    """The error for arguments that no retry can cure: where, and what would have been right."""
    return WorkerError("python", "bad_input", message, path=path, expected=expected)


def bad_option(message: str, name: str, expected: str) -> WorkerError:
    """The error for an option that no retry can cure."""
    return WorkerError("python", "bad_option", message, path=f"options.{name}", expected=expected)


@dataclass
class Worker:
    """The parts that all calls share."""

    config: Config
    engine: Engine
    leave: Callable[[str], None]  # makes the host replace this process once its calls have ended
    sessions: Sessions = field(default_factory=Sessions)
    programs: dict[str, UserProgram] = field(default_factory=dict)  # of the operator's modules
    pushed: dict[str, Pushed] = field(default_factory=dict)  # whole programs that an operator gave to all hosts
    instances: Instances = field(default_factory=Instances)  # of those programs that have one for each session
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)  # LM profiles by the key of their frame
    started: float = field(default_factory=time.monotonic)
    started_at: str = field(default_factory=now_text)
    commands: int = 0
    errors: int = 0
    engine_text: str = ""  # as replies name it: "dspy 3.4.1"

    def __post_init__(self) -> None:
        self.engine_text = f"{self.engine.name} {self.engine.version}" if self.engine.version else self.engine.name

    def add_profile(self, key: str, profile: dict[str, Any]) -> None:
        """Defines the LM profile that later calls name. Its key must never show up in any text."""
        self.profiles[key] = profile
        secret = profile.get("api_key")
        if isinstance(secret, str) and len(secret) >= 6:
            secrets.add(secret)

    def uptime(self) -> float:
        """Seconds since the start."""
        return round(time.monotonic() - self.started, 3)


class Call:
    """One call: the request, the session's state before and after, and what is known of its end."""

    __slots__ = (
        "args", "attempt", "before", "budget_ms", "cancelled", "chunks", "command", "coroutine", "emit_frame", "ended",
        "held", "id", "interrupt", "job", "let_go", "lm", "lm_called", "lm_choice", "options", "pushed", "session", "spans", "started",
        "state", "task", "usage", "version", "worker",
    )  # fmt: skip

    def __init__(self, worker: Worker, call_id: int, body: list[Any], emit_frame: Callable[[Call, bytes], Callable[[], None]]) -> None:
        self.worker = worker
        self.id = call_id
        self.emit_frame = emit_frame
        self.started = time.perf_counter()
        # The fields of a CALL, as bodies.py has checked them.
        command, args, session, job, attempt, budget_ms, options, state, version, lm, trace = body
        self.command: str = command
        self.args: dict[str, Any] = args
        self.held: str | None = session  # the name under which its state is held: tenants may have sessions of one id
        self.session: str | None = session.rpartition("/")[2] if session is not None else None
        self.job: str = job
        self.attempt: int = attempt
        self.budget_ms: int = budget_ms
        self.options: dict[str, Any] = options
        self.version: int = version
        self.lm: dict[str, Any] | None = self._profile(lm)
        self.lm_choice: dict[str, Any] | None = None  # what set_lm chose
        self.pushed: dict[str, Any] | None = None  # what push_program has checked
        self.usage: dict[str, Any] | None = None
        self.lm_called: bool | None = None  # whether the model of `lm` was; None: not known
        self.spans: Spans | None = Spans(self.started, bool(trace & TEXTS)) if trace else None
        self.chunks = 0
        self.cancelled: str | None = None  # why, once it was requested
        self.ended = False
        self.task: Any = None
        self.coroutine: Any = None
        self.interrupt: Callable[[], None] | None = None
        self.let_go: Callable[[], None] | None = None  # lets go of what its thread waits for
        self.before: State | None = None
        if self.held is not None:
            self.before = worker.sessions.load(self.held, self.version, state)
        self.state: State | None = self.before

    def _profile(self, key: str | None) -> dict[str, Any] | None:
        if key is None:
            return None
        profile = self.worker.profiles.get(key)
        if profile is None:
            raise WorkerError(
                "communication", "lm_unknown", "the call names an LM profile that was never sent to this worker", retryable=True
            )
        return profile

    def need_state(self) -> State:
        """The session's state as this call has changed it so far; an error for a call without session."""
        if self.state is None:
            raise WorkerError(
                "session",
                "session_required",
                f"{self.command} works on the state of a session, and this call has none",
                hint="send it to a session (dspex.rpc.session.<id>, or --session ID)",
            )
        return self.state

    def emit(self, name: str | None, chunk: str, lm_call: int = 0) -> None:
        """Sends partial output; callable from any thread, but only by the call's own code. lm_call distinguishes two answers."""
        for at in range(0, len(chunk), CHUNK_MAX):
            with _numbering:
                if self.ended:
                    return
                fields = [self.chunks, name, chunk[at : at + CHUNK_MAX]]
                body = wire.encode([*fields, lm_call] if lm_call else fields)
                self.chunks += 1
                pace = self.emit_frame(self, body)
            pace()  # without the lock: it may wait for the loop, on which the same call may emit, too

    @property
    def streams(self) -> bool:
        """Whether the caller requested partial output."""
        wanted = self.options.get("stream", False)
        if not isinstance(wanted, bool):
            raise bad_option("options.stream must be true or false", "stream", "true or false")
        return wanted

    def temperature(self) -> float | None:
        """The job's own temperature, else the session's choice, else None: the profile's."""
        if "temperature" in self.options:
            return check_temperature(self.options["temperature"], bad_option)
        # A job that names another LM for itself leaves the session's whole choice aside.
        if self.state is None or self.state.lm is None or self.options.get("lm") is not None:
            return None
        return self.state.lm.get("temperature")

    def context(self, history: list[dict[str, Any]] | None = None) -> Context:
        """What an engine gets of the call."""
        return Context(
            job=self.job,
            attempt=self.attempt,
            session=self.session,
            lm=self.lm,
            temperature=self.temperature(),
            history=history or [],
            emit=self.emit if self.streams else None,
            budget_ms=self.budget_ms,
            when_cancelled=self._when_cancelled,
            used=self._used,
        )

    def _when_cancelled(self, let_go: Callable[[], None]) -> None:
        self.let_go = let_go
        if self.cancelled is not None:
            let_go()

    def _used(self, usage: dict[str, Any], lm_called: bool) -> None:
        self.usage, self.lm_called = usage, lm_called

    def as_job(self) -> Job:
        """What user code gets of the call."""
        return Job(
            id=self.job,
            attempt=self.attempt,
            session=self.session,
            command=self.command,
            worker=self.worker.config.worker,
            budget_ms=self.budget_ms,
            call=self.id,
            _emit=self.emit if self.streams else None,
            _ended=lambda: self.ended,
            _cancelled=lambda: self.cancelled is not None,
        )

    def traced(self) -> tuple[str, str, Any]:
        """What its spans are named after: the engine, the command, the program."""
        return self.worker.engine_text, self.command, self.args.get("program_id")

    def result_body(self, value: Any) -> bytes:
        """The body of the RESULT; the session's new state counts from here on. EncodeError or a WorkerError leave the old one."""
        worker = self.worker
        meta: dict[str, Any] = {
            "engine": worker.engine_text,
            "run_ms": round((time.perf_counter() - self.started) * 1000, 3),
        }
        if self.usage:
            meta["usage"] = self.usage
        if self.lm_called is not None:
            meta["lm_called"] = self.lm_called
        if self.pushed is not None:
            meta["program"] = self.pushed
        if self.spans is not None:
            meta["spans"] = self.spans.report(*self.traced(), None)
        if self.state is self.before:
            choice = self.lm_choice if self.state is None else self.state.lm
            if choice is not None:
                meta["lm_choice"] = choice
            return wire.encode_answer(value, [meta, None, self.version])
        return self._changed_body(value, meta)

    def _changed_body(self, value: Any, meta: dict[str, Any]) -> bytes:
        assert self.state is not None
        assert self.before is not None
        assert self.held is not None
        state, limit = self.state, self.worker.config.state_bytes
        if state.created_at is None:
            state = replace(state, created_at=now_text())
        # An explicit nil reports to the host that the choice is gone.
        if state.lm is not None or self.before.lm is not None:
            meta["lm_choice"] = state.lm
        raw = state.to_bytes(self.version + 1)
        if len(raw) > limit:
            raise WorkerError(
                "session",
                "state_too_large",
                f"the session's state would have {len(raw)} bytes, at most {limit} are allowed; the old state stays",
                hint="delete programs or session data, or keep large data outside of the session",
            )
        body = wire.encode_answer(value, [meta, raw, self.version + 1])
        if len(body) <= self.worker.config.max_frame:
            self.worker.sessions.keep(self.held, self.version + 1, state, len(raw))
        return body


def check_temperature(value: Any, refuse: Callable[[str, str, str], WorkerError], path: str = "temperature") -> float | None:
    """A temperature 0 .. 2, or None; anything else is the error that refuse makes."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 2:
        raise refuse("the temperature is out of range", path, "a number from 0 to 2")
    return float(value)


def error_body(error: WorkerError, max_frame: int, call: Call | None = None) -> bytes:
    """The body of an ERROR; what does not fit is left out, the error itself never is."""
    *head, detail = error.fields()
    if call is not None:
        if call.usage:
            detail.setdefault("usage", call.usage)
        if call.lm_called is not None:
            detail["lm_called"] = call.lm_called
        if call.spans is not None:
            detail["spans"] = call.spans.report(*call.traced(), error.code)
    try:
        body = wire.encode([*head, detail])
        if len(body) <= max_frame:
            return body
    except wire.EncodeError:
        pass
    return wire.encode([*head[:2], bounded(head[2], 512), {"retryable": detail["retryable"]}])
