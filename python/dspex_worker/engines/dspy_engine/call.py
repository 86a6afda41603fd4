"""Everything around one call of a program: settings of its own, the deadline, partial output, usage, and reports of failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

from dspex_worker.engines import Context
from dspex_worker.engines.dspy_engine.models.failures import Model, describe, operation_timeout
from dspex_worker.engines.dspy_engine.models.lm import Profile, Profiles
from dspex_worker.engines.dspy_engine.patches.settings import job_settings
from dspex_worker.engines.dspy_engine.patches.streaming import Sink
from dspex_worker.engines.dspy_engine.trace import Trace, trace_var
from dspex_worker.errors import WorkerError, frames_of
from dspex_worker.guard import class_name

__all__ = ["Call"]


def _copied(counts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _copied(value) if isinstance(value, dict) else value for name, value in counts.items()}


class Call:
    """One call. user_code: code of the operator runs in it, so a failure carries where it came from."""

    def __init__(self, ctx: Context, inputs: Mapping[str, Any], *, user_code: bool = False) -> None:
        self._ctx = ctx
        self._inputs = inputs
        self._user_code = user_code
        self._trace = Trace()
        self._profile: Profile | None = None
        self.temperature: float | None = None

    @asynccontextmanager
    async def running(self, profiles: Profiles, predictors: Sequence[Any]) -> AsyncIterator[None]:
        """Around a program. predictors: those whose text outputs are streamed, if the caller requests that."""
        try:
            with self.failures(), self._settings(profiles, predictors, need_lm=True):
                limit = asyncio.timeout(self._ctx.budget_ms / 1000 if self._ctx.budget_ms > 0 else None)
                try:
                    async with limit:
                        with self._ended_at(limit.when()):
                            yield
                except TimeoutError:
                    if limit.expired():
                        raise operation_timeout(self._ctx.budget_ms, self._trace, self.usage()) from None
                    raise
        finally:
            self._report()
            await profiles.sweep()

    @contextmanager
    def _ended_at(self, when: float | None) -> Iterator[None]:
        """Lets go of models when the time is over: what waits for one in a thread cannot be interrupted."""
        if when is None:
            yield
            return
        timer = asyncio.get_running_loop().call_at(when, self._trace.end)
        try:
            yield
        finally:
            timer.cancel()

    @contextmanager
    def around_user_code(self, profiles: Profiles) -> Iterator[None]:
        """Around a function of the operator, which may or may not use the language model."""
        try:
            with self.failures(), self._settings(profiles, (), need_lm=False):
                yield
        finally:
            self._report()

    def usage(self) -> dict[str, Any]:
        """The counts that language models reported, by model: of every call, whoever made it in whatever thread."""
        names = {self._profile.lm.model: self._profile.model} if self._profile is not None else {}
        with self._trace.lock:
            return {names.get(model, model): _copied(counts) for model, counts in self._trace.usage.items()}

    def _report(self) -> None:
        if self._ctx.used is not None:
            self._ctx.used(self.usage(), self._trace.called_profile)

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turns DSPy's errors into failures; all else goes through."""
        try:
            yield
        except Exception as error:
            found = describe(
                error,
                of=self._model_of(error),
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

    def _model_of(self, error: BaseException) -> Model:
        """The language model that the error comes from; the profile's where nothing else is known."""
        lm = self._trace.lm_of(error)
        if lm is None or (self._profile is not None and self._profile.owns(lm)):
            return Model(self._profile.model if self._profile is not None else None, True)
        return Model(str(getattr(lm, "model", None) or class_name(lm)), False)

    @contextmanager
    def _settings(self, profiles: Profiles, predictors: Sequence[Any], *, need_lm: bool) -> Iterator[None]:
        """DSPy's settings for this call alone: a snapshot that nothing outside of the call sees."""
        values: dict[str, Any] = {}
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
                self._trace.of_profile = self._profile.owns
            if self._ctx.emit is not None and predictors:
                sink = Sink(self._ctx.emit, self._trace, predictors)
                if sink.listeners:
                    values.update(send_stream=sink, stream_listeners=sink.listeners)
            self._trace.settings = job_settings(self._user_code, **values)
            stack.callback(trace_var.reset, trace_var.set(self._trace))
            stack.callback(self._trace.end)
            if self._ctx.when_cancelled is not None:
                self._ctx.when_cancelled(self._trace.end)
            yield
