"""Signatures: which inputs a program takes and which outputs it gives, read from text or from a map.

Both forms come from outside, so both go through our own grammar: DSPy's string form imports the types that it does not
know. The result is plain data that the engines turn into what they need.

    "question, context: list[str] -> answer: str, score: float"

    {"name": "QuestionAnswer", "description": "Answer shortly.",
     "inputs": [{"name": "question", "type": "string"}],
     "outputs": [{"name": "answer", "type": "string", "description": "one word"}]}
"""

from __future__ import annotations

import hashlib
import json
import keyword
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from dspex_worker.signatures.fieldtype import (
    MAX_TEXT,
    SignatureError,
    SpecError,
    Type,
    kind_of,
    parse_type,
)

__all__ = [
    "MODULES",
    "STEERING_NAMES",
    "Field",
    "Signature",
    "SignatureError",
    "SpecError",
    "Type",
    "check_module",
    "infer_signature",
    "parse_signature",
    "parse_type",
]

MAX_FIELDS = 64  # of inputs and outputs together
MAX_TOTAL_TEXT = 4 * MAX_TEXT  # of all descriptions of one signature: they go into every prompt
MODULES = ("predict", "chain_of_thought", "react")

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_TITLE = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,127}")
_NAME_TEXT = "a letter, then letters, digits or _ (64 at most); not a keyword of Python"

# DSPy's signature class breaks when a field is called like one of its own members.
_RESERVED = frozenset(
    """fields instructions input_fields output_fields signature model_config model_construct model_copy model_dump
    model_dump_json model_extra model_fields model_fields_set model_computed_fields model_json_schema model_post_init
    model_parametrized_name model_rebuild model_validate model_validate_json model_validate_strings""".split()
)
# An input travels as a keyword argument, and these ones steer DSPy's call: `config` could send the prompt and the key to
# another address, `demos` puts examples into the prompt.
STEERING_NAMES = frozenset("config demos prediction lm signature new_signature max_iters interpreter_factory".split())
_RESERVED_INPUTS = _RESERVED | STEERING_NAMES | frozenset({"completions", "self"})
# Fields that a module adds to the signature itself.
_MODULE_FIELDS = {
    "predict": frozenset[str](),
    "chain_of_thought": frozenset({"reasoning"}),
    "react": frozenset({"reasoning", "trajectory", "next_thought", "next_tool_name", "next_tool_args"}),
}


@dataclass(frozen=True)
class Field:
    """One input or output."""

    name: str
    type: Type
    description: str = ""


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a program, in order. Made by `parse_signature` and `infer_signature` only."""

    name: str
    description: str
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]

    def to_map(self) -> dict[str, Any]:
        """Return the map form with every key and canonical types; `parse_signature` reads it back to an equal signature."""
        return {
            "name": self.name,
            "description": self.description,
            "inputs": [_field_map(f) for f in self.inputs],
            "outputs": [_field_map(f) for f in self.outputs],
        }

    def key(self) -> str:
        """Return a text that two signatures share only if they are the same; stable between processes and versions."""
        return self._key

    @cached_property
    def _key(self) -> str:
        text = json.dumps(self.to_map(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @cached_property
    def has_history(self) -> str | None:
        """The name of the input that takes the past turns, or None."""
        return next((f.name for f in self.inputs if f.type.kind == "history"), None)


def _field_map(field: Field) -> dict[str, str]:
    return {"name": field.name, "type": field.type.text(), "description": field.description}


def parse_signature(spec: object) -> Signature:
    """Read a signature from its text or its map. SignatureError, with the place and what is expected, on anything else."""
    if isinstance(spec, str):
        return _parse_text(spec)
    if isinstance(spec, Mapping):
        return _parse_map(spec)
    raise SignatureError(
        f"a signature must be a string or a map, not {kind_of(spec)}", "signature", '"question -> answer" or {name, inputs, outputs}'
    )


@lru_cache(maxsize=256)
def _parse_text(text: str) -> Signature:
    _bound(text, "signature")
    sides = _split(text, "->")
    if len(sides) != 2:
        raise SignatureError('a signature in text form needs one "->"', "signature", '"question, context: list[str] -> answer: str"')
    inputs = [_parse_field_text(part, "inputs") for part in _split(sides[0])]
    outputs = [_parse_field_text(part, "outputs") for part in _split(sides[1])]
    return _signature("Signature", "", inputs, outputs)


def _split(side: str, at: str = ",") -> list[str]:
    """Split at the commas, or at another mark, that stand outside of brackets and quotes."""
    if not side.strip():
        return []
    parts, depth, quote, start, i = [], 0, "", 0, 0
    while i < len(side):
        c = side[i]
        if quote:
            if c == "\\":
                i += 1
            elif c == quote:
                quote = ""
        elif c in "'\"":
            quote = c
        elif c in "[]":
            depth += 1 if c == "[" else -1
        elif side.startswith(at, i) and (depth == 0 or at == "->"):  # an arrow ends a side without a closing bracket, too
            parts.append(side[start:i])
            start = i + len(at)
        i += 1
    parts.append(side[start:])
    return parts


def _parse_field_text(part: str, side: str) -> Field:
    name, colon, kind = part.partition(":")
    name = _field_name(name.strip(), side)
    if colon and not kind.strip():
        raise SignatureError(f"{side}.{name}: a type must follow the colon", f"signature.{side}.{name}", "for example ': list[str]'")
    return Field(name, parse_type(kind.strip(), f"signature.{side}.{name}") if colon else Type("str"))


def _parse_map(spec: Mapping[Any, Any]) -> Signature:
    _known_keys(spec, ("name", "description", "inputs", "outputs"), "signature")
    name = _text(spec, "name", "signature") or "Signature"
    if not _TITLE.fullmatch(name):
        raise SignatureError("signature.name is not a name", "signature.name", "a letter, then letters, digits, _ or . (128 at most)")
    sides = {}
    for side in ("inputs", "outputs"):
        fields = spec.get(side)
        if not isinstance(fields, (list, tuple)):
            raise SignatureError(
                f"signature.{side} must be a list, not {kind_of(fields)}", f"signature.{side}", "a list of {name, type, description}"
            )
        if len(fields) > MAX_FIELDS:
            raise SignatureError("a signature has too many fields", f"signature.{side}", f"at most {MAX_FIELDS} inputs and outputs")
        sides[side] = [_parse_field_map(f, side, i) for i, f in enumerate(fields)]
    return _signature(name, _text(spec, "description", "signature"), sides["inputs"], sides["outputs"])


def _parse_field_map(spec: object, side: str, i: int) -> Field:
    path = f"signature.{side}[{i}]"
    if not isinstance(spec, Mapping):
        raise SignatureError(f"{path} must be a map, not {kind_of(spec)}", path, "{name, type, description}")
    _known_keys(spec, ("name", "type", "description"), path)
    name = _field_name(_text(spec, "name", path), side)
    kind = _text(spec, "type", path) or "string"
    return Field(name, parse_type(kind, f"{path}.type"), _text(spec, "description", path))


def _known_keys(spec: Mapping[Any, Any], known: Iterable[str], path: str) -> None:
    unknown = sorted(repr(k)[:60] for k in spec if k not in known)
    if unknown:
        raise SignatureError(f"{path} has unknown keys: {', '.join(unknown[:8])}", path, ", ".join(known))


def _text(spec: Mapping[Any, Any], key: str, path: str) -> str:
    value = spec.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise SignatureError(f"{path}.{key} must be a string, not {kind_of(value)}", f"{path}.{key}", "a string")
    _bound(value, f"{path}.{key}")
    return value


def _bound(text: str, path: str) -> None:
    if len(text) > MAX_TEXT:
        raise SignatureError(f"{path} is too long", path, f"at most {MAX_TEXT} characters")
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        raise SignatureError(f"{path} has a lone surrogate", path, "valid text")


def _field_name(name: str, side: str) -> str:
    path = f"signature.{side}"
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise SignatureError(f"{side}: {name[:64]!r} cannot be the name of a field", path, _NAME_TEXT)
    if name in (_RESERVED_INPUTS if side == "inputs" else _RESERVED):
        raise SignatureError(f"{side}: the name {name!r} is reserved", f"{path}.{name}", f"another name, for example {name + '_text'!r}")
    return name


def _signature(name: str, description: str, inputs: list[Field], outputs: list[Field]) -> Signature:
    if not inputs or not outputs:
        side = "outputs" if inputs else "inputs"
        raise SignatureError(f"a signature needs at least one of its {side}", f"signature.{side}", "at least one field")
    if len(inputs) + len(outputs) > MAX_FIELDS:
        raise SignatureError("a signature has too many fields", "signature", f"at most {MAX_FIELDS} inputs and outputs")
    seen: dict[str, str] = {}
    for field in (*inputs, *outputs):
        # The wire refuses maps with keys that differ only by case, so such names cannot stand beside each other either.
        other = seen.get(field.name.lower())
        if other is not None:
            raise SignatureError(f"two fields are called {other!r} and {field.name!r}", f"signature.{field.name}", "each name once")
        seen[field.name.lower()] = field.name
    if len(description) + sum(len(f.description) for f in (*inputs, *outputs)) > MAX_TOTAL_TEXT:
        raise SignatureError("the descriptions are too long", "signature", f"at most {MAX_TOTAL_TEXT} characters together")
    _check_history(inputs, outputs)
    return Signature(name, description, tuple(inputs), tuple(outputs))


def _check_history(inputs: list[Field], outputs: list[Field]) -> None:
    at_top = [f.name for f in inputs if f.type.kind == "history"]
    inside = [f.name for f in inputs if f.type.kind != "history" and _contains_history(f.type)]
    wrong = at_top[1:] + inside + [f.name for f in outputs if _contains_history(f.type)]
    if wrong:
        expected = "one input of type history, not inside another type"
        raise SignatureError(f"the type history cannot be used for {wrong[0]!r}", f"signature.{wrong[0]}", expected)


def _contains_history(kind: Type) -> bool:
    return kind.kind == "history" or any(isinstance(a, Type) and _contains_history(a) for a in kind.args)


def check_module(signature: Signature, module: str) -> None:
    """Refuse a module that is unknown or that adds a field which the signature has, too."""
    if module not in _MODULE_FIELDS:
        raise SignatureError(f"unknown module {module[:64]!r}", "module", ", ".join(MODULES))
    for field in (*signature.inputs, *signature.outputs):
        if field.name in _MODULE_FIELDS[module]:
            raise SignatureError(f"the module {module} adds a field {field.name!r} itself", f"signature.{field.name}", "another name")


_INFERRED = {str: "str", bool: "bool", int: "int", float: "float"}


def infer_signature(args: Mapping[str, Any], outputs: Iterable[str] | None = None) -> Signature:
    """Make the signature of a predict that gives none: the argument names with the types of their values, and the outputs as text."""
    names = ("answer",) if outputs is None else tuple(outputs)
    if isinstance(outputs, str) or not all(isinstance(name, str) for name in (*args, *names)):
        raise SignatureError("the names of inputs and outputs must be strings", "signature", _NAME_TEXT)
    return _inferred(tuple((name, _infer(value)) for name, value in args.items()), names)


@lru_cache(maxsize=1024)
def _inferred(args: tuple[tuple[str, Type], ...], outputs: tuple[str, ...]) -> Signature:
    inputs = [Field(_field_name(name, "inputs"), kind) for name, kind in args]
    return _signature("Signature", "", inputs, [Field(_field_name(name, "outputs"), Type("str")) for name in outputs])


def _infer(value: object) -> Type:
    if isinstance(value, list):
        return Type("list", (Type("any"),))
    if isinstance(value, dict):
        return Type("dict", (Type("any"),))
    return Type(_INFERRED.get(type(value), "any"))
