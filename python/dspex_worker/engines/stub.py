"""An engine without language model and without third-party packages. Its name and every answer mark it.

Outputs depend on nothing but the signature, the inputs and the history, so tests can state them.
"""

from __future__ import annotations

import json
from typing import Any

from dspex_worker.engines import Context, Outcome, Program
from dspex_worker.signatures.signature import Type

__all__ = ["StubEngine"]

MARK = "[stub]"
CHUNK = 6  # characters; small, so that even a short answer comes in several pieces


class StubEngine:
    """Answers every program at once with typed, made-up values."""

    name = "stub"
    version: str | None = None
    default_slots = 64

    def __init__(self) -> None:
        self._answers: list[dict[str, Any]] = []  # of a test's scenario

    def start(self, config: dict[str, Any]) -> None:
        """Needs nothing but a scenario's answers, if there are any."""
        self._answers = config.get("answers", [])

    def run_inline(self, program: Program, inputs: dict[str, Any], ctx: Context) -> Outcome | None:
        """The whole run: there is nothing to wait for."""
        text = _first_text(program, inputs)
        outputs: dict[str, Any] = {}
        if program.module == "chain_of_thought":
            outputs["reasoning"] = f"{MARK} thought about {text}"
        given = self._given(inputs)
        for field in program.signature.outputs:
            outputs[field.name] = given[field.name] if field.name in given else value_of(field.type, text)
        if ctx.emit is not None:
            _stream(outputs, ctx)
        return Outcome(outputs, usage_of(inputs, ctx.history, outputs))

    def _given(self, inputs: dict[str, Any]) -> dict[str, Any]:
        for answer in self._answers:
            if all(name in inputs and inputs[name] == value for name, value in answer["where"].items()):
                found: dict[str, Any] = answer["outputs"]
                return found
        return {}

    async def run(self, program: Program, inputs: dict[str, Any], ctx: Context) -> Outcome:
        """The same as inline."""
        outcome = self.run_inline(program, inputs, ctx)
        assert outcome is not None
        return outcome

    async def run_module(self, module: Any, inputs: dict[str, Any], ctx: Context) -> Outcome:
        """Calls the object's `forward` (or the object) with the inputs; without DSPy that is all a module is."""
        given = getattr(module, "forward", module)(**inputs)
        to_dict = getattr(given, "toDict", None)
        found = to_dict() if callable(to_dict) else given
        outputs = found if isinstance(found, dict) else {"output": found}
        return Outcome(outputs, usage_of(inputs, ctx.history, outputs))

    async def close(self) -> None:
        """Holds nothing."""


def _spoken(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def _first_text(program: Program, inputs: dict[str, Any]) -> str:
    for field in program.signature.inputs:
        if field.type.kind != "history" and field.name in inputs:
            return _spoken(inputs[field.name])
    return ""


def value_of(kind: Type, text: str) -> Any:
    """A value of the type, made from the text."""
    if kind.kind == "literal":
        return kind.args[0]
    if kind.kind == "optional":
        return value_of(kind.args[0], text)
    if kind.kind == "list":
        return [value_of(kind.args[0], text)] if kind.args else [f"{MARK} {text}"]
    if kind.kind == "dict":
        return {"stub": value_of(kind.args[-1], text) if kind.args else f"{MARK} {text}"}
    if kind.kind == "history":
        return {"messages": []}
    plain = {"int": len(text), "float": len(text) / 2, "bool": bool(text)}
    return plain.get(kind.kind, f"{MARK} {text}")


def usage_of(inputs: Any, history: Any, outputs: Any) -> dict[str, Any]:
    """Counts of words in place of tokens; a longer history makes a longer prompt, as with a real model."""
    prompt = len(_spoken(inputs).split()) + sum(len(_spoken(turn).split()) for turn in history)
    completion = len(_spoken(outputs).split())
    return {
        "stub": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion},
    }


def _stream(outputs: dict[str, Any], ctx: Context) -> None:
    assert ctx.emit is not None
    for name, value in outputs.items():
        text = _spoken(value)
        for at in range(0, len(text), CHUNK):
            ctx.emit(name, text[at : at + CHUNK])
