"""Everything around one call of a program: settings of its own, the deadline, partial output, usage, and failures told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import dspy
from dspy.utils.usage_tracker import UsageTracker

from dspex_worker.engines import Context
from dspex_worker.engines.dspy_engine.boot import ADAPTER
from dspex_worker.engines.dspy_engine.failures import describe, operation_timeout
from dspex_worker.engines.dspy_engine.lm import Profile, Profiles
from dspex_worker.engines.dspy_engine.streaming import Sink
from dspex_worker.engines.dspy_engine.trace import Trace, trace_var
from dspex_worker.errors import WorkerError, frames_of

__all__ = ["Call"]


class Call:
    """One call. user_code: code of the operator runs in it, so a failure carries where it came from."""

    def __init__(self, ctx: Context, inputs: Mapping[str, Any], *, user_code: bool = False) -> None:
        self._ctx = ctx
        self._inputs = inputs
        self._user_code = user_code
        self._tracker = UsageTracker()
        self._trace = Trace()
        self._profile: Profile | None = None
        self.temperature: float | None = None

    @asynccontextmanager
    async def running(self, profiles: Profiles, predictors: Sequence[Any]) -> AsyncIterator[None]:
        """Around a program. predictors: those whose text outputs are streamed, if the caller wants that."""
        try:
            with self.failures(), self._settings(profiles, predictors, need_lm=True):
                limit = asyncio.timeout(self._ctx.budget_ms / 1000 if self._ctx.budget_ms > 0 else None)
                try:
                    async with limit:
                        yield
                except TimeoutError:
                    if limit.expired():
                        raise operation_timeout(self._ctx.budget_ms, self._trace, self.usage()) from None
                    raise
        finally:
            await profiles.sweep()

    @contextmanager
    def around_user_code(self, profiles: Profiles) -> Iterator[None]:
        """Around a function of the operator, which may or may not use the language model."""
        with self.failures(), self._settings(profiles, (), need_lm=False):
            yield

    def usage(self) -> dict[str, Any]:
        """The counts that the language model reported, by model."""
        names = {self._profile.lm.model: self._profile.model} if self._profile is not None else {}
        totals = self._tracker.get_total_tokens()
        return {names.get(model, model): _counts(entry) for model, entry in totals.items()}

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turns DSPy's errors into failures; all else goes through."""
        try:
            yield
        except Exception as error:
            found = describe(
                error,
                provider=self._profile.provider if self._profile is not None else "of the program",
                inputs={**self._inputs, "": self._ctx.history},
                trace=self._trace,
                temperature=self.temperature,
                usage=self.usage(),
            )
            if found is None:
                raise
            if self._user_code:
                found.traceback = frames_of(error)
            raise found from None

    @contextmanager
    def _settings(self, profiles: Profiles, predictors: Sequence[Any], *, need_lm: bool) -> Iterator[None]:
        """DSPy's settings for this call alone: a snapshot that nothing outside of the call sees."""
        values: dict[str, Any] = {"lm": None, "send_stream": None, "stream_listeners": [], "callbacks": []}
        values.update(adapter=ADAPTER, trace=None, disable_history=True, usage_tracker=self._tracker)
        with ExitStack() as stack:
            if self._ctx.lm is not None:
                try:
                    self._profile = stack.enter_context(profiles.use(self._ctx.lm))
                except WorkerError:
                    if need_lm:
                        raise
            if self._profile is not None:
                values["lm"] = lm = self._profile.at(self._ctx.temperature)
                self.temperature = lm.kwargs.get("temperature")
            if self._ctx.emit is not None and predictors:
                sink = Sink(self._ctx.emit, self._trace, predictors)
                if sink.listeners:
                    values.update(send_stream=sink, stream_listeners=sink.listeners)
            stack.callback(trace_var.reset, trace_var.set(self._trace))
            stack.enter_context(dspy.context(**values))
            yield


def _counts(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Only what can be added up; providers send flags and nulls beside it."""
    found: dict[str, Any] = {}
    for name, value in entry.items():
        if isinstance(value, Mapping):
            inner = _counts(value)
            if inner:
                found[name] = inner
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[name] = value
    return found
