"""Our signatures as DSPy programs, and a session's turns as their history.

A program holds nothing of a call, so one object serves many calls at once and is kept for the next.
"""

from __future__ import annotations

import json
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import GenericAlias
from typing import Any, Literal

from dspy import ChainOfThought, History, InputField, OutputField, Predict, ReAct
from dspy import Signature as MadeSignature

from dspex_worker.engines import Program
from dspex_worker.engines.dspy_engine.learnt import apply
from dspex_worker.engines.dspy_engine.tools import SafeTool, finish_tool
from dspex_worker.signatures.signature import Field, Signature, Type, check_module

__all__ = ["Built", "Programs"]

KEPT = 512  # programs; one takes about 20 KiB and a quarter of a millisecond to build
_HISTORY_NAMES = ("history", "conversation", "past_turns", "dspex_history")  # more than fields that may be called so by chance

_SIMPLE: dict[str, Any] = {"str": str, "int": int, "float": float, "bool": bool, "any": Any, "history": History}


@dataclass(frozen=True)
class Built:
    """A program in DSPy's form."""

    module: Any
    predictor: Any  # the predictor that fills the outputs
    signature: Signature
    history: str | None  # the input that takes the past turns
    transcript: bool  # the past turns go in as text
    reasoning: bool  # the result has the output `reasoning`, too

    def arguments(self, inputs: Mapping[str, Any], turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What to call the module with: exactly its inputs, since other names would steer DSPy."""
        found = {name: value for name, value in inputs.items() if name != self.history}
        if self.history is not None:
            given = inputs.get(self.history)
            past = [_as_turn(turn, self.signature) for turn in given] if given is not None else list(turns)
            found[self.history] = _transcript(past) if self.transcript else _history(past, self.signature, self.reasoning)
        return found


class Programs:
    """The programs last used."""

    def __init__(self, tools: Sequence[Any] = (), limit: int = KEPT) -> None:
        self._tools = [SafeTool.of(tool) for tool in tools]
        self._limit = limit
        self._held: OrderedDict[tuple[str, str, str, bool], Built] = OrderedDict()

    def get(self, program: Program, with_turns: bool) -> Built:
        """The program; with_turns: past turns must find a place in it. SignatureError when the module does not suit."""
        key = (program.signature.key(), program.module, program.learnt_key, with_turns)
        built = self._held.get(key)
        if built is None:
            check_module(program.signature, program.module)
            built = self._held[key] = self._build(program, with_turns)
            if len(self._held) > self._limit:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return built

    def _build(self, program: Program, with_turns: bool) -> Built:
        signature = program.signature
        # ReAct requests other outputs than the turns have: there they are readable as text only.
        transcript = program.module == "react"
        history = signature.has_history
        fields: dict[str, Any] = {}
        if history is None and with_turns:
            taken = {f.name.lower() for f in (*signature.inputs, *signature.outputs)}
            history = next(name for name in _HISTORY_NAMES if name not in taken)
            fields[history] = _input(Field(history, Type("history"), "the conversation so far"), transcript)
        for entry in signature.inputs:
            fields[entry.name] = _input(entry, transcript)
        for entry in signature.outputs:
            fields[entry.name] = (_python_type(entry.type), OutputField(**_described(entry)))
        with warnings.catch_warnings():
            # Fields such as `json` and `copy` shadow methods of DSPy's class that nothing here calls on an object.
            warnings.filterwarnings("ignore", message="Field name .* shadows an attribute", category=UserWarning)
            module, predictor = self._module(program.module, MadeSignature(fields, signature.description or None))
            if program.learnt is not None:
                apply(module, program.learnt, history if signature.has_history is None else None)
        return Built(module, predictor, signature, history, transcript, program.module == "chain_of_thought")

    def _module(self, name: str, spec: Any) -> tuple[Any, Any]:
        if name == "react":
            react = ReAct(spec, tools=list(self._tools))
            react.tools["finish"] = finish_tool(react.tools["finish"])
            return react, react.extract.predict
        if name == "chain_of_thought":
            module = ChainOfThought(spec)
            return module, module.predict
        module = Predict(spec)
        return module, module


def _input(entry: Field, transcript: bool) -> tuple[Any, Any]:
    kind = str if transcript and entry.type.kind == "history" else _python_type(entry.type)
    return kind, InputField(**_described(entry))


def _described(entry: Field) -> dict[str, str]:
    return {"desc": entry.description} if entry.description else {}


def _python_type(kind: Type) -> Any:
    if kind.kind in _SIMPLE:
        return _SIMPLE[kind.kind]
    if kind.kind == "literal":
        return Literal[kind.args]
    inner: Any = _python_type(kind.args[0])
    if kind.kind == "optional":
        return inner | None
    return GenericAlias(list, (inner,)) if kind.kind == "list" else GenericAlias(dict, (str, inner))


def _as_turn(given: Mapping[str, Any], signature: Signature) -> dict[str, Any]:
    """A turn from the flat form that DSPy's History has."""
    outputs = {f.name for f in signature.outputs} | {"reasoning"}
    return {
        "inputs": {name: value for name, value in given.items() if name not in outputs},
        "outputs": {name: value for name, value in given.items() if name in outputs},
    }


def _history(turns: Sequence[Mapping[str, Any]], signature: Signature, reasoning: bool) -> Any:
    """The turns in the signature's own fields.

    DSPy leaves out what is not a field of the signature. A turn of another program would be empty, so its values go into
    the first input and the first output.
    """
    inputs = [f.name for f in signature.inputs if f.type.kind != "history"]
    outputs = (["reasoning"] if reasoning else []) + [f.name for f in signature.outputs]
    first_output = signature.outputs[0].name
    messages = []
    for turn in turns:
        said = dict(turn.get("outputs") or {})
        if not reasoning and len(said) > 1:
            said.pop("reasoning", None)
        message = _fit(turn.get("inputs") or {}, inputs, inputs[0]) if inputs else {}
        answer = _fit(said, outputs, first_output)
        for name in outputs:
            answer.setdefault(name, "(not given in this turn)")
        messages.append({**message, **answer})
    return History(messages=messages)


def _fit(values: Mapping[str, Any], names: Sequence[str], first: str) -> dict[str, Any]:
    fitting: dict[str, Any] = {name: _plain(values[name]) for name in names if values.get(name) is not None}
    others = {name: value for name, value in values.items() if name not in names}
    if others:
        # A lone value needs no name beside it.
        text = _text(*others.values()) if len(others) == 1 and not fitting else _lines(others)
        fitting[first] = f"{_text(fitting[first])}\n{text}" if first in fitting else text
    return fitting


def _plain(value: Any) -> Any:
    # DSPy takes a map with this key for calls of tools and fails on any other.
    return _text(value) if isinstance(value, dict) and "tool_calls" in value else value


def _transcript(turns: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for turn in turns:
        parts.append(f"User:\n{_lines(turn.get('inputs') or {})}\nAssistant:\n{_lines(turn.get('outputs') or {})}")
    return "\n\n".join(parts)


def _lines(values: Mapping[str, Any]) -> str:
    return "\n".join(f"{name}: {_text(value)}" for name, value in values.items())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
