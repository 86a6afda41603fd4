"""Whether values fit a signature: the inputs of a call, and the outputs of a program.

Values are never repeated in an error, only their kinds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from dspex_worker.signatures.fieldtype import InputError, OutputError, Type, kind_of, short
from dspex_worker.signatures.plain import fold
from dspex_worker.signatures.signature import Signature

__all__ = ["InputError", "OutputError", "check_inputs", "check_outputs", "check_value"]

MAX_VALUE_DEPTH = 60  # of a value; a frame may be 64 deep and wraps the value itself


def check_inputs(signature: Signature, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs in the order of the signature, in the form of its types. InputError names all that is wrong.

    The history may be left out; if it is given it is a list of maps, or a map with such a list under `messages`.
    An Optional input that is left out is None.
    """
    problems: list[str] = []
    if not isinstance(inputs, Mapping):
        raise InputError(f"the inputs must be a map, not {kind_of(inputs)}", "inputs", "a map of names to values")
    known = {f.name for f in signature.inputs}
    problems += [f"unknown input {str(name)[:64]!r}" for name in inputs if name not in known]
    checked: dict[str, Any] = {}
    for field in signature.inputs:
        if field.type.kind == "history":
            if inputs.get(field.name) is not None:
                checked[field.name] = _check_turns(inputs[field.name], field.name, problems)
        elif field.name in inputs or field.type.kind == "optional":
            checked[field.name] = check_value(field.type, inputs.get(field.name), f"input {field.name}", problems)
        else:
            problems.append(f"missing input {field.name!r}")
    if problems:
        raise InputError(_join(problems), "inputs", ", ".join(f"{f.name}: {f.type.text()}" for f in signature.inputs)[:1024])
    return checked


def _check_turns(value: Any, name: str, problems: list[str]) -> list[dict[str, Any]]:
    turns = value.get("messages") if isinstance(value, dict) else value
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        problems.append(f"input {name} must be a list of maps, one for each past turn")
        return []
    return [check_value(Type("dict", (Type("any"),)), turn, f"input {name}", problems) for turn in turns]


def check_outputs(signature: Signature, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return exactly the outputs of the signature, in its order. OutputError names what is missing or of another type."""
    problems: list[str] = []
    checked: dict[str, Any] = {}
    for field in signature.outputs:
        if field.name in outputs or field.type.kind == "optional":
            checked[field.name] = check_value(field.type, outputs.get(field.name), f"output {field.name}", problems)
        else:
            problems.append(f"missing output {field.name!r}")
    if problems:
        raise OutputError(_join(problems), "outputs", ", ".join(f"{f.name}: {f.type.text()}" for f in signature.outputs)[:1024])
    return checked


def _join(problems: list[str]) -> str:
    more = f"; and {len(problems) - 8} more" if len(problems) > 8 else ""
    return "; ".join(problems[:8]) + more


def check_value(kind: Type, value: Any, path: str, problems: list[str]) -> Any:
    """Return `value` in the form of `kind` (an integer becomes a float where a number is due); append what is wrong to `problems`."""
    name = kind.kind
    if name == "optional":
        return None if value is None else check_value(kind.args[0], value, path, problems)
    if name == "any":
        return _check_any(value, path, problems, MAX_VALUE_DEPTH)
    if name == "list" and isinstance(value, (list, tuple)):
        return [check_value(kind.args[0], v, f"{path}[{i}]", problems) for i, v in enumerate(value)]
    if name == "dict" and isinstance(value, dict):
        _check_keys(value, path, problems)
        return {k: check_value(kind.args[0], v, f"{path}[{_key(k)}]", problems) for k, v in value.items()}
    if name == "literal":
        if not any(value == v and type(value) is type(v) for v in kind.args):
            problems.append(f"{path} must be one of {short(kind.text()[8:-1])}")
        return value
    return _check_scalar(name, value, path, problems)


def _check_scalar(name: str, value: Any, path: str, problems: list[str]) -> Any:
    if name == "str" and isinstance(value, str):
        _check_text(value, path, problems)
    elif name == "int" and type(value) is int:
        _check_int(value, path, problems)
    elif name == "float" and type(value) in (int, float):
        value = float(value) if abs(value) < 2**1023 else math.inf
        if not math.isfinite(value):
            problems.append(f"{path} must be a finite number")
    elif not (name == "bool" and type(value) is bool):
        problems.append(f"{path} must be {_DUE.get(name, name)}, not {kind_of(value)}")
    return value


_DUE = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "list": "list", "dict": "map"}


def _check_any(value: Any, path: str, problems: list[str], depth: int) -> Any:
    if depth == 0:
        problems.append(f"{path} is nested too deep")
    elif isinstance(value, dict):
        _check_keys(value, path, problems)
        return {k: _check_any(v, f"{path}[{_key(k)}]", problems, depth - 1) for k, v in value.items()}
    elif isinstance(value, (list, tuple)):
        return [_check_any(v, f"{path}[{i}]", problems, depth - 1) for i, v in enumerate(value)]
    elif isinstance(value, str):
        _check_text(value, path, problems)
    elif isinstance(value, float) and not math.isfinite(value):
        problems.append(f"{path} must be a finite number")
    elif type(value) is int:
        _check_int(value, path, problems)
    elif value is not None and not isinstance(value, (bool, float)):
        problems.append(f"{path} must be a JSON value, not {kind_of(value)}")
    return value


def _check_int(value: int, path: str, problems: list[str]) -> None:
    if not -(2**63) <= value < 2**64:
        problems.append(f"{path} must be an integer of 64 bits")


def _check_text(value: str, path: str, problems: list[str]) -> None:
    # A lone surrogate passes through Python but not through UTF-8, which every wire uses.
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            problems.append(f"{path} must be text without lone surrogates")


def _check_keys(value: dict[Any, Any], path: str, problems: list[str]) -> None:
    if not all(isinstance(k, str) for k in value):
        problems.append(f"{path} must have strings as keys")
    elif len({fold(k) for k in value}) != len(value):
        problems.append(f"{path} has keys that differ only by case")


def _key(key: object) -> str:
    # A key of a map is data: it stands in an error only if it looks like a name.
    return key if isinstance(key, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,31}", key) else "?"
