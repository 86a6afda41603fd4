"""What runs programs: the joint between the runtime and DSPy (or its stand-in).

The runtime has signatures, sessions and frames; an engine has language models. Nothing outside of an engine's own
package imports DSPy.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from dspex_worker.signatures.signature import Signature

__all__ = ["Context", "Engine", "Outcome", "Program", "load"]


@dataclass(frozen=True)
class Program:
    """What to run: a signature, the DSPy module around it, and what the program has learnt (learnt.py)."""

    signature: Signature
    module: str = "predict"
    learnt: Mapping[str, Any] | None = field(default=None, compare=False)
    learnt_key: str = ""  # distinguishes two states


@dataclass
class Context:
    """Everything of a call that an engine may look at, apart from the inputs."""

    job: str
    attempt: int
    session: str | None
    lm: dict[str, Any] | None
    temperature: float | None
    history: list[dict[str, Any]] = field(default_factory=list)  # turns {"inputs": {...}, "outputs": {...}}, oldest first
    emit: Callable[..., None] | None = None  # set when the caller requests partial output: field, chunk, and number of the model's call
    budget_ms: int = 0
    when_cancelled: Callable[[Callable[[], None]], None] | None = None  # takes what is to be called when the call is cancelled
    used: Callable[[dict[str, Any], bool], None] | None = None  # reported at the end: counts by model, and whether the LM was called


@dataclass
class Outcome:
    """What a program gave: outputs by name, and the counts that the language model reported, by model."""

    outputs: dict[str, Any]
    usage: dict[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """One engine lives in a worker. All but `start` is called on the event loop's thread.

    An engine may also have `job_context(ctx)`, a context manager: user functions run inside it, so that their own DSPy
    code finds the language model of the call. And `settings()`: a picture of what modules may configure at their import;
    `check(program)`, which raises a WorkerError for what a program has learnt and cannot use; `learn(module, learnt)`, which puts it
    into a module of the operator.
    """

    name: str
    version: str | None
    default_slots: int

    def start(self, config: dict[str, Any]) -> None:
        """Imports and warms up, on the main thread, before the loop exists. config is INIT's."""

    def run_inline(self, program: Program, inputs: dict[str, Any], ctx: Context) -> Outcome | None:
        """The outcome when it costs next to nothing, else None: then `run` is called."""

    async def run(self, program: Program, inputs: dict[str, Any], ctx: Context) -> Outcome:
        """Runs a program. Cancellation of the task must end it."""

    async def run_module(self, module: Any, inputs: dict[str, Any], ctx: Context) -> Outcome:
        """Runs a module object that the operator's own code registered."""

    async def close(self) -> None:
        """Gives back connections."""


_CLASSES = {
    "dspy": ("dspex_worker.engines.dspy_engine", "DSPyEngine"),
    "stub": ("dspex_worker.engines.stub", "StubEngine"),
}


def load(name: str) -> Engine:
    """A new engine of that name; ValueError on an unknown one. Only the chosen engine's package is imported."""
    if name not in _CLASSES:
        raise ValueError(f"engine must be one of {', '.join(sorted(_CLASSES))}, not {name!r}")
    module, attribute = _CLASSES[name]
    return cast(Engine, getattr(importlib.import_module(module), attribute)())
