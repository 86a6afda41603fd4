"""What the tests of the DSPy engine share: one scenario on one loop, with a server and an engine of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from dspex_worker.engines import Context, Program
from dspex_worker.engines.dspy_engine import DSPyEngine
from dspex_worker.errors import WorkerError
from dspex_worker.signatures.signature import parse_signature
from tests.fake_lm import FakeLM

KEY = "sk-test-0123456789abcdef"

_started = False


def new_engine(**more: Any) -> DSPyEngine:
    """An engine ready to run. DSPy's process-wide part is done once, as in a worker."""
    global _started
    engine = DSPyEngine(**more)
    if not _started:
        engine.start({})
        _started = True
    return engine


def scenario(steps: Callable[[FakeLM, DSPyEngine], Awaitable[None]], **more: Any) -> None:
    """Runs the steps with a server and an engine; both end with them."""

    async def main() -> None:
        engine = new_engine(**more)
        async with FakeLM() as server:
            try:
                await steps(server, engine)
            finally:
                await engine.close()

    asyncio.run(main())


def profile(server: FakeLM, **more: Any) -> dict[str, Any]:
    """An LM profile map that leads to the server."""
    found = {
        "name": "test",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "api_base": server.url,
        "api_key": KEY,
        "temperature": None,
        "max_tokens": None,
        "timeout_ms": 30_000,
        "max_connections": 1000,
        "supports": {"response_schema": False, "function_calling": False},
    }
    return {**found, **more}


def context(lm: dict[str, Any] | None, **more: Any) -> Context:
    """A call's context."""
    found: dict[str, Any] = {"job": "j", "attempt": 1, "session": None, "temperature": None, "budget_ms": 30_000}
    return Context(lm=lm, **{**found, **more})


def program(spec: Any = "question -> answer", module: str = "predict") -> Program:
    """A program."""
    return Program(parse_signature(spec), module)


async def failure(awaitable: Awaitable[Any]) -> WorkerError:
    """The failure that the awaitable ends with."""
    try:
        found = await awaitable
    except WorkerError as error:
        return error
    raise AssertionError(f"expected a failure, got {found!r}")
