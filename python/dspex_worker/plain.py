"""Python objects as values of contract/values.md: None, bool, int, float, str, bytes, list and dict with str keys.

`to_wire` turns what programs really return (sets, decimals, dates, dataclasses, pydantic models, DSPy predictions) into
those and refuses the rest with the place where it stands. It is the only such function: both codecs use it.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import math
import re
import uuid
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

__all__ = ["DEPTH", "NODES", "EncodeError", "Placed", "fold", "to_wire"]

DEPTH = 64  # levels of arrays and maps, contract/values.md
NODES = 1_000_000  # values and keys of one value that is passed on, contract/values.md

_INT_MIN, _INT_MAX = -(1 << 63), (1 << 64) - 1
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_KEY_SHOWN = 64  # characters that one key adds to a path: a hostile key must not become a hostile log line
_SPELLED = (decimal.Decimal, uuid.UUID)
_DATES = (datetime.datetime, datetime.date, datetime.time)


class Placed(ValueError):
    """A problem with a place in a value. The place is put together while the error travels up: only errors pay for it."""

    path = ""

    def within(self, step: int | str) -> None:
        """Says that the place so far lies behind one more index or key."""
        dot = "" if not self.path or self.path.startswith("[") else "."
        self.path = _step(step) + dot + self.path


def _step(step: int | str) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    if len(step) <= _KEY_SHOWN and _NAME.fullmatch(step):
        return step
    shown = step if len(step) <= _KEY_SHOWN else step[:_KEY_SHOWN] + "..."
    return f"[{json.dumps(shown, ensure_ascii=False)}]"


class EncodeError(Placed):
    """A value that values.md has no spelling for."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"cannot send the value at {self.path or 'the top'}: {self.problem}"


def fold(key: str) -> str:
    """The key with case folded away, one character for one: two keys with the same fold differ only by case."""
    if key.isascii():
        return key.lower()
    return "".join(_fold_char(char) for char in key)


def _fold_char(char: str) -> str:
    folded = char.casefold()
    return folded if len(folded) == 1 else char.lower()


class _Walk:
    """One conversion: the budget of nodes, and the recursion that spends it."""

    def __init__(self, nodes: int) -> None:
        self.nodes = nodes

    def spend(self) -> None:
        self.nodes -= 1
        if self.nodes < 0:
            raise EncodeError("too many values")

    def value(self, value: Any, depth: int) -> Any:
        self.spend()
        if value is None or value is True or value is False:
            return value
        if isinstance(value, enum.Enum):
            value = value.value
        if isinstance(value, str):
            return _text(value)
        if isinstance(value, int):
            return _integer(value)
        if isinstance(value, float):
            # NaN has many spellings, the canonical form one.
            return float(value) if value == value else math.nan
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        if isinstance(value, _SPELLED):
            return str(value)
        if isinstance(value, _DATES):
            return value.isoformat()
        if depth == 0:
            raise EncodeError("it lies too deep")
        inner = _open(value)
        if isinstance(inner, Mapping):
            return self.map(inner, depth)
        if isinstance(inner, (list, tuple)):
            return self.array(inner, depth)
        self.nodes += 1
        return self.value(inner, depth - 1)

    def array(self, value: Any, depth: int) -> list[Any]:
        found: list[Any] = []
        try:
            for item in value:
                found.append(self.value(item, depth - 1))
        except EncodeError as error:
            error.within(len(found))
            raise
        return found

    def map(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        folded: set[str] = set()
        for key, item in value.items():
            if not isinstance(key, str):
                raise EncodeError(f"a key of type {type(key).__name__}; keys must be str")
            name = _text(key)
            try:
                self.spend()
                plain = fold(name)
                if plain in folded:
                    raise EncodeError("two keys of the map differ only by case")
                folded.add(plain)
                found[name] = self.value(item, depth - 1)
            except EncodeError as error:
                error.within(name)
                raise
        return found


def _text(value: str) -> str:
    text = str.__str__(value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise EncodeError("a str with a lone surrogate") from None
    return text


def _integer(value: int) -> int:
    if not _INT_MIN <= value <= _INT_MAX:
        raise EncodeError("an integer outside -2^63 .. 2^64-1; send it as a str")
    return int(value)


def _open(value: Any) -> Any:
    """What an object stands for: a map, a list, or a scalar in a box."""
    if isinstance(value, (Mapping, list, tuple)):
        return value
    if isinstance(value, AbstractSet):
        # A set has no order, but equal sets must have equal spellings.
        return sorted(value, key=lambda item: (type(item).__name__, str(item)))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if not isinstance(value, type):
        # pydantic models (dspy.History among them); dspy.Prediction and dspy.Example; numpy arrays and scalars.
        for name, arguments in (("model_dump", {"mode": "json"}), ("toDict", {}), ("tolist", {})):
            method = getattr(value, name, None)
            if callable(method):
                return method(**arguments)
    raise EncodeError(f"an object of type {type(value).__name__}; maps, lists, str, numbers, bool, bytes and None can be sent")


def to_wire(value: Any, depth: int = DEPTH, nodes: int = NODES) -> Any:
    """The value made of plain types only, or EncodeError with the place of what cannot be sent."""
    return _Walk(nodes).value(value, depth)
