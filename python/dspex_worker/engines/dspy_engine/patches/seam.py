"""The one place through which every call of a language model goes, whoever made the LM and in whatever thread it runs.

DSPy sends each attempt of each LM through two functions, one for synchronous and one for asynchronous code. They are wrapped
here. So a job that has ended reaches no model, and a failure is known to come from the LM that was really called. What was paid
for is counted, also in threads of the job and where the program threw the answer away.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from dspy import lm15
from dspy.clients import execution
from dspy.clients import lm as lm_module

from dspex_worker.engines.dspy_engine.trace import Trace, trace_var
from dspex_worker.errors import WorkerError
from dspex_worker.guard import text_of
from dspex_worker.spans import Spans, spans_var

__all__ = ["call_var", "install", "job_ended", "noted"]

call_var: ContextVar[int] = ContextVar("dspex_lm_call", default=0)  # number of the model call that runs, 0: none
_numbers = itertools.count(1)


def job_ended() -> WorkerError:
    """The error of what is left of a job: nobody waits for it, and nobody would pay for it."""
    return WorkerError(
        "python",
        "job_ended",
        "the job of this thread or task has ended: it can call no language model any more",
        hint="wait for all threads and tasks before the program returns; start long-lived ones outside of jobs, with queues of their own",
    )


# What servers of OpenAI's protocol answer to a prompt that is too long: each has words and codes of its own. llama.cpp has
# "exceeds the available context size", vLLM "maximum context length" and "longer than the maximum model length"; Ollama and
# others have theirs. DSPy's client recognizes OpenAI's own code, and the words of Anthropic and Gemini.
_TOO_LONG = re.compile(
    r"exceeds? the (?:available )?context (?:size|length|window)|maximum context length|longer than the maximum model length"
    r"|exceeds? (?:maximum )?context (?:window|length)|exceed_context_size_error",
    re.IGNORECASE,
)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Makes the error of a prompt that is too long what DSPy recognizes: ReAct then shortens its trajectory."""
    try:
        yield
    except (lm15.InvalidRequestError, lm15.ServerError) as error:
        if isinstance(error, lm15.ContextLengthError) or not _TOO_LONG.search(f"{error} {error.provider_code}"):
            raise
        known = {name: getattr(error, name, None) for name in ("status", "provider_code", "request_id")}
        raise lm15.ContextLengthError(str(error), **{name: value for name, value in known.items() if value}) from error


def noted(lm: Any, results: list[Any], messages: Any = None) -> contextlib.AbstractContextManager[None]:
    """Around one attempt of a call, whose results are appended to the list. messages: the prompt, for a trace that has texts."""
    spans = spans_var.get()
    return _noted(lm, results) if spans is None else _spanned(spans, lm, results, messages)


@contextlib.contextmanager
def _spanned(spans: Spans, lm: Any, results: list[Any], messages: Any) -> Iterator[None]:
    provider, _, model = str(getattr(lm, "model", "")).rpartition("/")
    attributes: dict[str, Any] = {"gen_ai.operation.name": "chat", "gen_ai.request.model": model}
    if provider:
        attributes["gen_ai.provider.name"] = provider
    settings = getattr(lm, "kwargs", None)
    if isinstance(settings, Mapping):
        attributes["gen_ai.request.temperature"] = settings.get("temperature")
        attributes["gen_ai.request.max_tokens"] = settings.get("max_tokens")
    if spans.texts:
        attributes["gen_ai.input.messages"] = spans.text(messages)
    before = len(results)
    with spans.span(f"chat {model}", attributes, client=True):
        with _noted(lm, results):
            yield
        for result in results[before:]:
            usage = result.usage if isinstance(result.usage, Mapping) else {}
            attributes["gen_ai.usage.input_tokens"] = usage.get("prompt_tokens")
            attributes["gen_ai.usage.output_tokens"] = usage.get("completion_tokens")
            if spans.texts:
                attributes["gen_ai.output.messages"] = spans.text(result.outputs)


@contextlib.contextmanager
def _noted(lm: Any, results: list[Any]) -> Iterator[None]:
    trace = trace_var.get()
    if trace is None:
        with _translated():
            yield
        return
    if trace.is_over():
        raise job_ended()
    if trace.of_profile is not None and trace.of_profile(lm):
        trace.called_profile = True
    before, token = len(results), call_var.set(next(_numbers))
    try:
        with _translated():
            yield
    except BaseException as error:
        trace.note_failure(error, lm)
        if trace.is_over() and isinstance(error, Exception):
            raise job_ended() from error  # its connection was closed under it
        raise
    finally:
        call_var.reset(token)
        _count(trace, lm, results[before:])


def _count(trace: Trace, lm: Any, results: Sequence[Any]) -> None:
    for result in results:
        usage = result.usage
        if isinstance(usage, Mapping) and usage:
            with trace.lock:
                _add(trace.usage.setdefault(str(lm.model), {}), usage)


def _add(totals: dict[str, Any], usage: Mapping[str, Any]) -> None:
    """Only what can be added up; providers send flags and nulls beside it."""
    for name, value in usage.items():
        if isinstance(value, Mapping) or hasattr(value, "model_dump"):
            inner = value if isinstance(value, Mapping) else value.model_dump()
            held = totals.get(name)
            if not isinstance(held, dict):
                held = {}
            _add(held, inner)
            if held:
                totals[name] = held
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            held = totals.get(name, 0)
            totals[name] = value + held if isinstance(held, (int, float)) else value


def _wrapped(attempt: Callable[..., Any]) -> Callable[..., Any]:
    def attempted(lm: Any, call: Any, backend: Any, request: Any, provider: Any, state: Any, results: list[Any]) -> Any:
        with noted(lm, results, getattr(request, "messages", None)):
            return attempt(lm, call, backend, request, provider, state, results)

    return attempted


def _awrapped(attempt: Callable[..., Any]) -> Callable[..., Any]:
    async def attempted(lm: Any, call: Any, backend: Any, request: Any, provider: Any, state: Any, results: list[Any]) -> Any:
        with noted(lm, results, getattr(request, "messages", None)):
            return await attempt(lm, call, backend, request, provider, state, results)

    return attempted


def _engine(select: Callable[..., Any]) -> Callable[..., Any]:
    """An LM without key or address fails before its first attempt: whose failure it is has to be known, too."""

    def selected(lm: Any, call: Any, asynchronous: bool) -> Any:
        try:
            return select(lm, call, asynchronous)
        except Exception as error:
            trace = trace_var.get()
            if trace is not None:
                trace.note_failure(error, lm)
            raise

    return selected


class _FromThread:
    """Stands for `anyio` where DSPy streams from synchronous code: anyio recognizes only the threads that it has started itself."""

    def __init__(self, original: Any) -> None:
        self._original = original
        self.from_thread = self

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Runs the asynchronous function to its end."""
        take = getattr(getattr(function, "__self__", None), "take", None)
        if take is not None:
            return take(*args)  # a sink of ours, which waits for nothing
        try:
            return self._original.from_thread.run(function, *args)
        except RuntimeError as error:
            if not text_of(error).startswith(_NO_ANYIO_THREAD):
                raise
        return asyncio.run(function(*args))


_NO_ANYIO_THREAD = "This function can only be run from an AnyIO worker thread"


def install() -> None:
    """Puts the seam into DSPy."""
    execution._attempt = _wrapped(execution._attempt)
    execution._aattempt = _awrapped(execution._aattempt)
    execution._engine = _engine(execution._engine)
    execution.anyio = _FromThread(execution.anyio)
    lm_module.anyio = _FromThread(lm_module.anyio)
