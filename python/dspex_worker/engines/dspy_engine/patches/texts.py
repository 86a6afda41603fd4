"""Calls of a language model that are texts in and one text out, without the objects that DSPy makes of both.

DSPy makes a request of the messages, JSON of the request, a response of the JSON that comes back and a text of the response,
each step checked: a third of the processor time of a predict. Here the body is put together from the one that DSPy itself built
for the same LM, settings and order of roles: it must be that body byte for byte, or the way is left. It is compared again with
the second call and then once in this many. What is no plain text, or could be seen by anybody (callbacks, caches, history,
streaming), goes DSPy's way; so does every answer but a text that ended by itself. Errors are DSPy's own.

The call stands in the one seam of all calls (seam.py), as DSPy's do.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import dspy
from dspy.clients import _deprecation, base_lm, execution
from dspy.clients.call_result import CallResult, usage_dict
from dspy.clients.engines.lm15_engine import AsyncLM15Engine
from dspy.clients.errors import error_boundary
from dspy.lm15 import ProviderError, Response

from dspex_worker.engines.dspy_engine.patches import fast, seam

__all__ = ["install"]

# DSPy's own, which it does not export.
async_base: Any = importlib.import_module("dspy._vendor.lm15.providers.async_base")
openai_chat: Any = importlib.import_module("dspy._vendor.lm15.providers.openai_chat")
json_dumps: Any = importlib.import_module("dspy._vendor.lm15.providers.common").json_dumps
_attach_error_metadata: Any = importlib.import_module("dspy._vendor.lm15.providers.base")._attach_error_metadata

_LM = dspy.LM  # as it is at the start: user code may put something else into its place

TEMPLATES = 256  # of one engine: LM, settings and order of roles
CHECK_EVERY = 1024  # calls with one template
MESSAGES = 512  # of one call; longer conversations are rare, and each length is a template

# What a call or an LM may set. All else goes DSPy's way.
_SETTINGS = frozenset({"temperature", "max_tokens", "max_completion_tokens", "top_p", "seed", "frequency_penalty", "presence_penalty"})
_ROLES = {"system": "s", "user": "u", "assistant": "a"}
_PLAIN = (int, float, type(None))


@dataclass
class _Template:
    """The request of one LM, settings and order of roles, without its messages."""

    provider: Any  # DSPy's object for the endpoint, with its connections
    request: Any
    before: bytes
    after: bytes
    calls: int = 1

    def body(self, messages: Sequence[Mapping[str, Any]]) -> bytes:
        texts: bytes = json_dumps([{"role": m["role"], "content": m["content"]} for m in messages])
        return self.before + texts + self.after

    def fill(self, messages: Sequence[Mapping[str, Any]]) -> Any:
        like = self.request
        return type(like)(
            like.method, like.url, like.headers, self.body(messages), like.connect_timeout, like.read_timeout, like.write_timeout
        )

    def is_due(self) -> bool:
        self.calls += 1
        return self.calls == 2 or self.calls % CHECK_EVERY == 0


_templates: WeakKeyDictionary[AsyncLM15Engine, dict[Any, _Template | None]] = WeakKeyDictionary()


def _shape(messages: Any) -> str | None:
    """The order of the roles, None if there is anything but texts that are not empty."""
    if type(messages) is not list or not 0 < len(messages) <= MESSAGES:
        return None
    found = []
    for message in messages:
        if type(message) is not dict or len(message) != 2:
            return None
        content, role = message.get("content"), _ROLES.get(message.get("role"))  # type: ignore[arg-type]
        if role is None or type(content) is not str or not content:
            return None
        found.append(role)
    return "".join(found)


def _settings(lm: Any, given: Mapping[str, Any]) -> str | None:
    """What is set, spelled; None if there is anything but plain numbers, or a cache."""
    if given.get("cache", lm.cache):
        return None
    merged = {**lm.kwargs, **given}
    merged.pop("cache", None)
    if merged.get("rollout_id") is None:
        merged.pop("rollout_id", None)
    if not merged.keys() <= _SETTINGS or any(not isinstance(value, _PLAIN) for value in merged.values()):
        return None
    return repr(merged)


def _unseen(lm: Any, messages: Any) -> bool:
    """Whether nobody looks at how the call is made: no callbacks, history, streaming; and the LM is DSPy's, used by an adapter."""
    settings = dspy.settings
    origin = _deprecation._adapter_call.get()
    return (
        type(lm) is _LM
        and not lm.callbacks
        and not settings.callbacks
        and settings.send_stream is None
        and settings.disable_history
        and origin is not None
        and origin[0] is lm
        and origin[1] is messages
        and lm.num_retries == 0
        and lm.model_type == "chat"
        and "aforward" not in vars(lm)
    )


# What is gone around. A tool that puts something else into its place (for tracing) expects to see the calls.
_AROUND: tuple[tuple[Any, str], ...] = (
    (execution, "prepare"),
    (execution, "aexecute"),
    (execution, "_aattempt"),
    (execution, "_engine"),
    (execution, "_result"),
    (execution, "finalize"),
    (AsyncLM15Engine, "complete"),
    (async_base.AsyncOpenAIChatLM, "complete"),
    (async_base.AsyncBaseProviderLM, "_send"),
    (openai_chat.OpenAIChatLM, "build_request"),
    (openai_chat.OpenAIChatLM, "parse_response"),
    (dspy.LM, "aforward"),
)
_originals: list[Any] = []


def _is_patched() -> bool:
    for (holder, name), original in zip(_AROUND, _originals, strict=True):
        if getattr(holder, name) is not original:
            fast.switch_off(fast.TEXTS, f"{getattr(holder, '__name__', holder)}.{name} was replaced")
            return True
    return False


def _template(engine: Any, lm: Any, messages: Any, given: dict[str, Any]) -> _Template | None:
    """The template of such a call, None if there is none. DSPy's own body is the model of it."""
    shape, settings = _shape(messages), _settings(lm, given)
    if shape is None or settings is None:
        return None
    held = _templates.get(engine)
    if held is None:
        held = _templates[engine] = {}
    key = (lm.model, settings, shape)
    template = held.get(key)
    if template is None:
        if key in held:
            return None
        if len(held) >= TEMPLATES:
            held.clear()
        held[key] = template = _learn(engine, lm, messages, given)
    elif template.is_due() and not _is_still_right(template, engine, lm, messages, given):
        held[key] = None
        fast.switch_off(fast.TEXTS, "DSPy built another request than the one that was put together")
        return None
    return template


def _built(engine: Any, lm: Any, messages: Any, given: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
    """DSPy's own request: the call, what it is for, and the bytes."""
    call = execution.prepare(lm, None, messages, given, asynchronous=True)
    canonical = execution._canonical(call)
    provider, routed = engine._target(canonical)
    request, adapted = provider._inner._build(routed, stream=False, policy=provider.adaptations)
    return call, canonical, provider, request, adapted


def _learn(engine: Any, lm: Any, messages: Any, given: dict[str, Any]) -> _Template | None:
    provider, _ = engine._target(execution._canonical(execution.prepare(lm, None, messages, given, asynchronous=True)))
    if type(provider) is not async_base.AsyncOpenAIChatLM or callable(provider._inner.api_key):
        return None
    _, canonical, provider, request, adapted = _built(engine, lm, messages, given)
    if adapted or provider._inner._judgments_via_token_scoring(canonical):
        return None
    texts = json_dumps([{"role": m["role"], "content": m["content"]} for m in messages])
    before, found, after = request.body.partition(texts)
    if not found or not before.endswith(b'"messages":') or texts in after:
        return None
    return _Template(provider, request, before, after)


def _is_still_right(template: _Template, engine: Any, lm: Any, messages: Any, given: dict[str, Any]) -> bool:
    _, _, provider, request, adapted = _built(engine, lm, messages, given)
    return provider is template.provider and not adapted and request == template.fill(messages)


def _read(body: bytes) -> tuple[str, dict[str, Any]] | None:
    """The text of an answer that is nothing but a text that ended by itself, and its usage as DSPy has it."""
    try:
        found = json.loads(body)
        (choice,) = found["choices"]
        message = choice["message"]
        text = message["content"]
    except (ValueError, KeyError, TypeError):
        return None
    if type(text) is not str or not text or choice.get("finish_reason") != "stop" or choice.get("logprobs") or found.get("error"):
        return None
    if not found.get("model") or any(value for name, value in message.items() if name not in ("role", "content")):
        return None
    usage = found.get("usage") or {}
    if type(usage) is not dict:
        return None
    return text, _usage(usage)


_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


def _usage(found: dict[str, Any]) -> dict[str, Any]:
    counts = {name: found[name] for name in _COUNTS if name in found}
    details = any(found.get(name) for name in ("prompt_tokens_details", "completion_tokens_details"))
    if len(counts) == len(_COUNTS) and not details and all(type(value) is int and value >= 0 for value in counts.values()):
        return {**counts, "prompt_tokens_details": None, "completion_tokens_details": None}
    return usage_dict(_HasUsage(openai_chat._usage_from_chat(found)))  # type: ignore[no-any-return]


@dataclass
class _HasUsage:
    """What DSPy's function looks at of a response."""

    usage: Any


def install(note: Callable[[str | None], None], engine_of: Callable[[Any], Any]) -> None:
    """Puts the way into DSPy. note: takes why the model stopped; engine_of: the engine of an LM that is ours, for this loop."""
    original = base_lm.BaseLM.acall

    async def acall(self: Any, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        if prompt is None and fast.taken(fast.TEXTS) and _unseen(self, messages) and not _is_patched():
            found = _request(engine_of, self, messages, kwargs)
            if found is not None:
                return await _ask(self, *found, messages, kwargs, note)
        return await original(self, prompt, messages=messages, **kwargs)

    _originals[:] = [getattr(holder, name) for holder, name in _AROUND]
    acall.__doc__, acall.__wrapped__ = original.__doc__, original  # type: ignore[attr-defined]
    base_lm.BaseLM.acall = acall


def _request(engine_of: Callable[[Any], Any], lm: Any, messages: Any, given: dict[str, Any]) -> tuple[Any, Any, Any] | None:
    """The engine, the provider and what to send; None if there is no template, or if anything is wrong: DSPy reports what."""
    try:
        engine = engine_of(lm)
        template = engine and _template(engine, lm, messages, given)
        return (engine, template.provider, template.fill(messages)) if template else None
    except Exception:
        return None


async def _ask(
    lm: Any, engine: Any, provider: Any, request: Any, messages: Any, given: dict[str, Any], note: Callable[[str | None], None]
) -> Any:
    results: list[CallResult] = []
    try:
        with error_boundary(lm.model, unexpected=True), seam.noted(lm, results, messages):
            http = await provider._send(request)
            found = _read(http.body) if http.status < 400 else None
            if found is None:
                _finish(lm, engine, http, messages, given, results, note)
            else:
                note("stop")
                results.append(CallResult(outputs=[found[0]], usage=found[1]))
    except BaseException as error:
        execution._hint_responses_api(lm, error)
        execution._account_failed_call(lm, results, error)
        raise
    (result,) = results
    if dspy.settings.usage_tracker:
        dspy.settings.usage_tracker.add_usage(lm.model, result.usage)
    return result.outputs


def _finish(
    lm: Any, engine: Any, http: Any, messages: Any, given: dict[str, Any], results: list[CallResult], note: Callable[[str | None], None]
) -> None:
    """DSPy's reading of an answer that is more than a text, or an error."""
    call = execution.prepare(lm, None, messages, given, asynchronous=True)
    request = execution._canonical(call)
    provider, routed = engine._target(request)
    inner = provider._inner
    if http.status >= 400:
        raise inner._http_error(http)
    try:
        response: Response = inner._finish_response(routed, inner.parse_response(routed, http), (), policy=provider.adaptations)
    except ProviderError as error:
        _attach_error_metadata(error, http.headers)
        raise
    note(response.finish_reason)
    execution._accept_response(lm, call, execution._Attempt(), results, response, None, request)
