"""The engine itself: what the runtime calls."""

from __future__ import annotations

import asyncio
import importlib.metadata
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import dspy

from dspex_worker import registry
from dspex_worker.engines import Context, Outcome, Program
from dspex_worker.engines.dspy_engine import boot
from dspex_worker.engines.dspy_engine.blocking import Blocking
from dspex_worker.engines.dspy_engine.call import Call
from dspex_worker.engines.dspy_engine.executor import inline_hops
from dspex_worker.engines.dspy_engine.inputs import converter
from dspex_worker.engines.dspy_engine.learnt import Unfit, apply
from dspex_worker.engines.dspy_engine.models.failures import not_configured
from dspex_worker.engines.dspy_engine.models.lm import Profiles, import_litellm
from dspex_worker.engines.dspy_engine.patches.settings import shared
from dspex_worker.engines.dspy_engine.programs import Built, Programs
from dspex_worker.errors import WorkerError, bounded
from dspex_worker.protocol.wire import EncodeError
from dspex_worker.signatures.fit import OutputError, check_outputs
from dspex_worker.signatures.module_inputs import method_of
from dspex_worker.signatures.plain import to_wire
from dspex_worker.signatures.signature import STEERING_NAMES, SignatureError

__all__ = ["DSPyEngine"]

DSPY_VERSION = "3.4.1"  # what this package is written for; others have other defaults and internals
MODULE_THREADS = 64  # synchronous modules of the operator that run at once


class DSPyEngine:
    """Runs programs with DSPy. tools: functions that ReAct programs may call."""

    name = "dspy"
    version: str | None = None
    default_slots = 64

    def __init__(self, tools: Sequence[Callable[..., Any]] = ()) -> None:
        self._profiles = Profiles()
        self._programs = Programs(tools)
        self._blocking = Blocking("synchronous programs", MODULE_THREADS)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, config: dict[str, Any]) -> None:
        """Sets DSPy's process-wide state and, if configured, runs a program without network. On the main thread, before the loop."""
        self.version = importlib.metadata.version("dspy")
        if self.version != DSPY_VERSION:
            raise WorkerError(
                "initialization",
                "engine_version",
                f"the engine dspy needs DSPy {DSPY_VERSION}, found {self.version}",
                hint="install the lock python/requirements/worker.txt into the worker's Python",
            )
        boot.configure()
        registry.converter = converter
        if config.get("warm_up", True):
            boot.warm_up()

    def settings(self) -> dict[str, Any]:
        """A picture of the process's settings: what modules configure at their import changes it."""
        return {name: list(value) if isinstance(value, list) else value for name, value in shared.items()}

    def check(self, program: Program) -> None:
        """Refuses what the program has learnt if that belongs to another one."""
        try:
            self._programs.get(program, with_turns=False)
        except Unfit as error:
            raise _unfit(error) from None
        except SignatureError:
            pass  # reported when it runs, as for every program

    def learn(self, module: Any, learnt: Mapping[str, Any]) -> None:
        """Puts what was learnt into a module of the operator."""
        if not isinstance(module, dspy.Module):
            raise _unfit(Unfit("it is no DSPy module", "a DSPy module"))
        try:
            apply(module, learnt)
        except Unfit as error:
            raise _unfit(error) from None

    def run_inline(self, program: Program, inputs: dict[str, Any], ctx: Context) -> Outcome | None:
        """Never: every program waits for a language model."""
        return None

    async def run(self, program: Program, inputs: dict[str, Any], ctx: Context) -> Outcome:
        """Runs a program and checks each of its outputs. A chain of thought also has the output `reasoning`."""
        if ctx.lm is None:
            raise not_configured()
        try:
            built = self._programs.get(program, bool(ctx.history))
        except SignatureError as error:
            raise WorkerError("python", "bad_signature", error.message, hint=f"expected: {error.expected}") from None
        self._adopt_loop()
        await import_litellm(ctx.lm)
        arguments = built.arguments(inputs, ctx.history)
        call = Call(ctx, inputs)
        async with call.running(self._profiles, [built.predictor]):
            prediction = await built.module.acall(**arguments)
        return Outcome(_outputs(built, prediction, call), call.usage())

    async def run_module(self, module: Any, inputs: dict[str, Any], ctx: Context) -> Outcome:
        """Runs a module of the operator: its `aforward` as a task, its `forward` in a thread."""
        _refuse_steering(module, inputs)
        self._adopt_loop()
        await import_litellm(ctx.lm)
        is_dspy = isinstance(module, dspy.Module)
        if not is_dspy and not callable(module):  # a class of one's own with a forward or an aforward
            module = method_of(module)
        asynchronous = method_of(module) == getattr(module, "aforward", None) if is_dspy else inspect.iscoroutinefunction(module)
        call = Call(ctx, inputs, user_code=True)
        async with call.running(self._profiles, module.predictors() if is_dspy and ctx.emit is not None else []):
            if not asynchronous:
                found = await self._blocking.run(lambda: module(**inputs))
            else:
                found = await (module.acall(**inputs) if is_dspy else module(**inputs))
        try:
            plain = to_wire(found)
        except EncodeError as error:
            place = bounded(f"outputs.{error.path}".rstrip("."), 200)
            raise WorkerError("python", "encode_error", f"cannot send {place}: {error.problem}", usage=call.usage() or None) from None
        return Outcome(plain if isinstance(plain, dict) else {"output": plain}, call.usage())

    def job_context(self, ctx: Context) -> AbstractContextManager[None]:
        """Around a user function: DSPy code inside finds the call's language model, and its errors become failures."""
        return Call(ctx, {}, user_code=True).around_user_code(self._profiles)

    async def close(self) -> None:
        """Closes all connections."""
        await self._profiles.aclose()

    def _adopt_loop(self) -> None:
        # The runtime makes the loop after `start`, so the first call is the first chance.
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            inline_hops(loop)
            self._loop = loop


def _unfit(error: Unfit) -> WorkerError:
    return WorkerError("python", "bad_input", f"the state does not fit the program: {error}", path="args.state", expected=error.expected)


def _outputs(built: Built, prediction: Any, call: Call) -> dict[str, Any]:
    found = {field.name: prediction[field.name] for field in built.signature.outputs if field.name in prediction}
    try:
        checked = check_outputs(built.signature, found)
    except OutputError as error:
        raise WorkerError(
            "python",
            "lm_bad_output",
            error.message,
            hint=f"expected: {error.expected}",
            retryable=call.temperature is None or call.temperature > 0,
            usage=call.usage() or None,
        ) from None
    if built.reasoning and isinstance(prediction.get("reasoning"), str):
        return {"reasoning": prediction["reasoning"], **checked}
    return checked


def _refuse_steering(module: Any, inputs: dict[str, Any]) -> None:
    """Refuses inputs that would steer DSPy instead of reaching the module, unless the module names them itself."""
    steering = [name for name in inputs if name in STEERING_NAMES or name.startswith("_")]
    if not steering:
        return
    named = {
        name
        for name, parameter in inspect.signature(method_of(module)).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    wrong = sorted(name for name in steering if name not in named)
    if wrong:
        message = f"the input names {', '.join(wrong)} are reserved"
        raise WorkerError("python", "bad_input", message, hint="a module may take them if its forward names them")
