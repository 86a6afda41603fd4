"""Language models: one DSPy LM for each profile, with its own connections and its own key.

A profile's engine is made here and handed to DSPy ready. What DSPy would choose itself limits a process to 100 connections, never
closes them, and turns to litellm for any setting that it does not know.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import sys
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import dspy
from dspy import lm15
from dspy.clients.engines import AsyncLM15Engine, LM15Engine

from dspex_worker.engines.dspy_engine.models import transport
from dspex_worker.engines.dspy_engine.patches import fast
from dspex_worker.engines.dspy_engine.trace import trace_var
from dspex_worker.errors import WorkerError

__all__ = ["PROVIDERS", "Profile", "Profiles", "engine_of", "import_litellm", "note_finish"]

KEPT = 32  # profiles with open connections
VARIANTS = 16  # temperatures that one profile keeps an LM for
CONNECT_SECONDS = 10.0
DEFAULT_TIMEOUT_MS = 60_000  # wait for the next byte; the job's own timeout bounds the whole
DEFAULT_CONNECTIONS = 1000

_LM = dspy.LM  # as it is at the start: user code may put something else into its place

# Versions of litellm that must not run: two stole credentials, one is not confirmed by its authors.
DENIED_LITELLM = frozenset({"1.82.7", "1.82.8", "1.107.0"})


@dataclass(frozen=True)
class _Provider:
    prefix: str  # of the model, in DSPy's spelling
    route: str  # the provider that it routes to, for keys and addresses
    keyless: bool = False  # a local server: works without a key
    base: bool = False  # has no address of its own


PROVIDERS = {
    "openai": _Provider("openai", "openai-chat"),
    "anthropic": _Provider("anthropic", "anthropic"),
    "gemini": _Provider("gemini", "gemini"),
    "openrouter": _Provider("openrouter", "openrouter"),
    "ollama": _Provider("ollama", "ollama", keyless=True),
    "vllm": _Provider("hosted_vllm", "vllm", keyless=True),
    "openai_compatible": _Provider("openai-compatible", "openai-compatible", keyless=True, base=True),
}


def _compatible(api_base: str) -> lm15.ProviderDefinition:
    """Any server of OpenAI's Chat Completions. Most accept `max_tokens` only, and no cache or reasoning fields."""
    access = lm15.AccessPolicy(
        provider="openai-compatible",
        supports=lm15.EndpointSupport(complete=True, stream=True),
        auth_modes=("bearer",),
        base_url=api_base,
    )
    compat = lm15.OpenAIChatCompat(
        instruction_role="system",
        max_tokens_field="max_tokens",
        stream_usage="include",
        thinking_format="none",
        tool_result_name="omit",
        strict_tools="omit",
        cache_control="none",
    )
    return lm15.ProviderDefinition.chat(access, compat=compat, placeholder_key="none")


class _SyncEngine(LM15Engine):  # type: ignore[misc]
    """The engine for synchronous user code. DSPy reads the capabilities of both engines from its attributes."""

    supports_response_schema = False
    supports_function_calling = False
    supports_reasoning = False
    supported_params: frozenset[str] = frozenset()

    def complete(self, request: lm15.Request) -> lm15.Response:
        response = super().complete(request)
        note_finish(response.finish_reason)
        return response

    def stream(self, request: lm15.Request) -> Iterator[Any]:
        events = super().stream(request)
        try:
            for event in events:
                if event.type == "end":
                    note_finish(event.finish_reason)
                yield event
        finally:
            events.close()


class _AsyncEngine:
    """The engine for everything else: one of DSPy's for each event loop, since connections work in the loop that opened them only.

    User code brings loops of its own (`asyncio.run`, `dspy.syncify`). Their connections go with them: DSPy closes the sockets
    of an engine that is let go.
    """

    def __init__(self, config: lm15.RouterConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._engines: dict[asyncio.AbstractEventLoop, AsyncLM15Engine] = {}
        self._closed = False

    def of_loop(self) -> AsyncLM15Engine:
        """The engine of the loop that runs."""
        loop = asyncio.get_running_loop()
        engine = self._engines.get(loop)
        if engine is None or self._closed:
            with self._lock:
                if self._closed:
                    raise lm15.ConfigurationError("Engine is closed")
                self._forget_closed_loops()
                engine = self._engines[loop] = self._made()
        return engine

    def _made(self) -> AsyncLM15Engine:
        if not fast.taken(fast.TRANSPORT):
            return AsyncLM15Engine(self._config)
        ours = transport.make(**self._config.transport_kwargs())
        return AsyncLM15Engine(replace(self._config, transport=ours, timeouts=None, max_connections=None))

    def _forget_closed_loops(self) -> None:
        for loop in [loop for loop in self._engines if loop.is_closed()]:
            del self._engines[loop]

    async def complete(self, request: lm15.Request) -> lm15.Response:
        """One answer."""
        response = await self.of_loop().complete(request)
        note_finish(response.finish_reason)
        return response

    async def stream(self, request: lm15.Request) -> AsyncIterator[Any]:
        """One answer in pieces."""
        events = self.of_loop().stream(request)
        try:
            async for event in events:
                if event.type == "end":
                    note_finish(event.finish_reason)
                yield event
        finally:
            await events.aclose()

    def sweep(self) -> None:
        """Lets go of what belongs to loops that have ended."""
        if len(self._engines) > 1:
            with self._lock:
                self._forget_closed_loops()

    async def aclose(self) -> None:
        """Closes the connections of this loop and lets go of those of others."""
        with self._lock:
            self._closed = True
            engine = self._engines.pop(asyncio.get_running_loop(), None)
            self._engines.clear()
        if engine is not None:
            await engine.aclose()
            if engine.config.transport is not None:  # an engine closes only what it has made itself
                await engine.config.transport.aclose()


def note_finish(finish: str | None) -> None:
    """Notes why a model of this call stopped."""
    trace = trace_var.get()
    if trace is not None:
        trace.finish = finish


def engine_of(lm: Any) -> AsyncLM15Engine | None:
    """The engine that the LM's calls go through in this loop; None if it is not one of ours."""
    engine = getattr(lm, "_async_engine_spec", None)
    return engine.of_loop() if type(engine) is _AsyncEngine else None


@dataclass
class Profile:
    """A language model ready for use, with its connections."""

    provider: str
    model: str  # as replies and usage name it: "<provider>/<model>"
    key: str | None
    lm: Any
    engines: tuple[Any, Any] | None  # None: DSPy owns them (litellm)
    users: int = 0
    variants: dict[float, Any] = field(default_factory=dict)

    def at(self, temperature: float | None) -> Any:
        """The LM, with another temperature if one is given. It shares the connections."""
        if temperature is None or temperature == self.lm.kwargs.get("temperature"):
            return self.lm
        found = self.variants.get(temperature)
        if found is None:
            if len(self.variants) >= VARIANTS:
                self.variants.clear()
            found = self.variants[temperature] = self.lm.copy(temperature=temperature)
        return found

    def owns(self, lm: Any) -> bool:
        """Whether it is the profile's LM or a copy of it."""
        if self.engines is not None:
            return getattr(lm, "_engine_spec", None) is self.engines[0]
        kwargs = getattr(lm, "kwargs", {})
        return getattr(lm, "model", None) == self.lm.model and all(
            kwargs.get(name) == self.lm.kwargs.get(name) for name in ("api_key", "api_base")
        )

    async def aclose(self) -> None:
        """Closes the connections. No call may be using them."""
        if self.engines is None:
            await self.lm.aclose()
            return
        sync_engine, async_engine = self.engines
        await async_engine.aclose()
        sync_engine.close()


class Profiles:
    """The profiles last used. One that is dropped is closed when no call uses it any more."""

    def __init__(self, limit: int = KEPT) -> None:
        self._limit = limit
        self._lock = threading.Lock()  # user functions in threads use profiles, too
        self._held: OrderedDict[str, Profile] = OrderedDict()
        self._dropped: list[Profile] = []
        self._digests: dict[int, tuple[dict[str, Any], str]] = {}  # by identity; holding the map keeps the identity its own

    @contextmanager
    def use(self, found: dict[str, Any]) -> Iterator[Profile]:
        """The profile of an LM frame's map. WorkerError when it cannot be used."""
        with self._lock:
            digest = self._digest(found)
            profile = self._held.get(digest)
            if profile is None:
                profile = self._held[digest] = make(found)
            self._held.move_to_end(digest)
            profile.users += 1
        try:
            yield profile
        finally:
            with self._lock:
                profile.users -= 1

    def _digest(self, found: dict[str, Any]) -> str:
        """What the profile is known by. The map of an LM frame does not change, so it is read once as long as it is kept here."""
        held = self._digests.get(id(found))
        if held is None or held[0] is not found:
            text = json.dumps(found, sort_keys=True, default=str)
            if len(self._digests) >= 4 * self._limit:
                self._digests.clear()
            held = self._digests[id(found)] = (found, hashlib.sha256(text.encode()).hexdigest())
        return held[1]

    async def sweep(self) -> None:
        """Closes what is over the limit and idle."""
        for profile in list(self._held.values()):
            if profile.engines is not None:
                profile.engines[1].sweep()
        if len(self._held) <= self._limit and not self._dropped:
            return
        with self._lock:
            while len(self._held) > self._limit:
                _, profile = self._held.popitem(last=False)
                self._dropped.append(profile)
            idle = [profile for profile in self._dropped if profile.users == 0]
            self._dropped = [profile for profile in self._dropped if profile.users]
        for profile in idle:
            await profile.aclose()

    async def aclose(self) -> None:
        """Closes all of them."""
        with self._lock:
            everything = [*self._held.values(), *self._dropped]
            self._held.clear()
            self._dropped.clear()
        for profile in everything:
            await profile.aclose()


def make(found: dict[str, Any]) -> Profile:
    """Makes the LM of a profile map. Nothing connects yet."""
    if found.get("engine") == "litellm":
        return _litellm(found)
    provider = PROVIDERS.get(found.get("provider") or "")
    name, model, key, base = found.get("provider"), found.get("model"), found.get("api_key"), found.get("api_base")
    if provider is None:
        raise _bad(found, "lm_provider_unknown", f"names the unknown provider {str(name)[:64]!r}", f"one of {', '.join(PROVIDERS)}")
    if not isinstance(model, str) or not model:
        raise _bad(found, "lm_configuration", "names no model", "set its model")
    if not key and not provider.keyless:
        raise _bad(found, "lm_not_configured", f"has no key for {name}", "set its api_key or a reference to one")
    if provider.base and not base:
        raise _bad(found, "lm_not_configured", "has no address", "set its api_base, for example http://host:8000/v1")
    engines = _engines(found, provider)
    for prefix in (f"{name}/", f"{provider.prefix}/"):
        model = model.removeprefix(prefix)
    lm = _lm(found, f"{provider.prefix}/{model}", engine=engines[0], async_engine=engines[1])
    return Profile(str(name), f"{name}/{model}", key, lm, engines)


def _engines(found: dict[str, Any], provider: _Provider) -> tuple[_SyncEngine, _AsyncEngine]:
    key, base = found.get("api_key"), found.get("api_base")
    wait = (found.get("timeout_ms") or DEFAULT_TIMEOUT_MS) / 1000
    config = lm15.RouterConfig(
        api_keys={provider.route: key} if key else None,
        base_urls={provider.route: base} if base and not provider.base else None,
        providers=(_compatible(base),) if provider.base and base else (),
        max_connections=found.get("max_connections") or DEFAULT_CONNECTIONS,
        timeouts=lm15.Timeouts(connect=min(CONNECT_SECONDS, wait), read=wait, write=wait, pool=wait),
        env={},
    )
    engine = _SyncEngine(config)
    supports = found.get("supports") or {}
    engine.supports_response_schema = bool(supports.get("response_schema"))
    engine.supports_function_calling = bool(supports.get("function_calling"))
    params = {"temperature", "max_tokens", "top_p", "stop", "stream"}
    if engine.supports_response_schema:
        params.add("response_format")
    if engine.supports_function_calling:
        params |= {"tools", "tool_choice"}
    engine.supported_params = frozenset(params)
    return engine, _AsyncEngine(config)


def _lm(found: dict[str, Any], model: str, **more: Any) -> Any:
    try:
        # Retries are the dispatcher's: here they would multiply, and wait with the slot taken.
        return _LM(model, temperature=found.get("temperature"), max_tokens=found.get("max_tokens"), cache=False, num_retries=0, **more)
    except dspy.utils.exceptions.LMConfigurationError as error:
        hint = "OpenAI's reasoning models take no temperature but 1 (or null) and max_tokens of at least 16000, or none"
        raise _bad(found, "lm_configuration", "has settings that its model refuses", hint) from error


async def import_litellm(found: dict[str, Any] | None) -> None:
    """Imports litellm beside the event loop: that takes seconds, in which pings must be answered."""
    if found is None or found.get("engine") != "litellm" or "litellm" in sys.modules:
        return
    _check_litellm(found)
    with ThreadPoolExecutor(1) as thread:  # the loop's own executor has no threads
        await asyncio.get_running_loop().run_in_executor(thread, importlib.import_module, "litellm")


def _check_litellm(found: dict[str, Any]) -> None:
    """Refuses a litellm that is not there or not trusted, before anything imports it."""
    if importlib.util.find_spec("litellm") is None:
        hint = "install the lock litellm.txt, or leave engine out"
        raise _bad(found, "lm_engine_missing", "needs the engine litellm, which is not installed", hint)
    version = importlib.metadata.version("litellm")
    if version in DENIED_LITELLM:
        raise _bad(found, "lm_engine_refused", f"needs litellm {version}, which is not trusted", "install the lock litellm.txt")


def _litellm(found: dict[str, Any]) -> Profile:
    _check_litellm(found)
    provider, model = str(found.get("provider")), str(found.get("model"))
    settings = {"api_key": found.get("api_key"), "api_base": found.get("api_base")}
    lm = _lm(
        found,
        f"{provider}/{model}",
        engine="litellm",
        timeout=(found.get("timeout_ms") or DEFAULT_TIMEOUT_MS) / 1000,
        **{name: value for name, value in settings.items() if value},
    )
    return Profile(provider, f"{provider}/{model}", found.get("api_key"), lm, None)


def _bad(found: dict[str, Any], code: str, problem: str, hint: str) -> WorkerError:
    name = found.get("name")
    return WorkerError("python", code, f"the LM profile {str(name)[:64]!r} {problem}" if name else f"the LM profile {problem}", hint=hint)
