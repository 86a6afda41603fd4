"""Python objects as values of contract/values.md: None, bool, int, float, str, bytes, list and dict with str keys.

`to_wire` turns what programs really return (sets, decimals, dates, dataclasses, pydantic models, DSPy predictions) into
those and refuses the rest with the place where it stands. It is the only such function: both codecs use it.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import fractions
import ipaddress
import json
import math
import pathlib
import re
import uuid
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from dspex_worker.guard import class_name, text_of

__all__ = ["DEPTH", "NODES", "EncodeError", "Placed", "fold", "to_wire"]

DEPTH = 64  # levels of arrays and maps, contract/values.md
NODES = 1_000_000  # values and keys of one value that is passed on, contract/values.md

_INT_MIN, _INT_MAX = -(1 << 63), (1 << 64) - 1
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_KEY_SHOWN = 64  # characters that one key adds to a path: a hostile key must not become a hostile log line
_SPELLED = (decimal.Decimal, fractions.Fraction, uuid.UUID, pathlib.PurePath, ipaddress.IPv4Address, ipaddress.IPv6Address)
_DATES = (datetime.datetime, datetime.date, datetime.time)


class Placed(ValueError):
    """A problem with a place in a value. The place is put together while the error travels up: only errors pay for it."""

    path = ""

    def within(self, step: int | str) -> None:
        """Records that the place so far lies behind one more index or key."""
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
        if type(value) is str:  # most of what there is
            return _text(value)
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
        if isinstance(value, datetime.timedelta):
            return value.total_seconds()
        if isinstance(value, complex):
            return [float(value.real), float(value.imag)]
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
        odd: list[tuple[Any, Any]] = []  # keys that are no str: those that are one come first
        for key, item in value.items():
            if isinstance(key, str) and not isinstance(key, enum.Enum):
                self.entry(found, _text(key), item, depth)
            else:
                odd.append((key, item))
        for key, item in odd:
            name = _key(key)
            if name in found:  # 1 beside "1": both are kept
                name = f"{name} ({class_name(key)})"
            if name in found:
                raise EncodeError(f"two keys with the text {name[:_KEY_SHOWN]!r}")
            self.entry(found, name, item, depth)
        return found

    def entry(self, found: dict[str, Any], name: str, item: Any, depth: int) -> None:
        try:
            self.spend()
            found[name] = self.value(item, depth - 1)
        except EncodeError as error:
            error.within(name)
            raise


def _key(key: Any) -> str:
    """A key as JSON programs write it: numbers, booleans and None as in JSON, dates as in values, anything else as its text."""
    if isinstance(key, enum.Enum):
        key = key.value
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    if isinstance(key, float) and not math.isfinite(key):
        return "NaN" if key != key else "Infinity" if key > 0 else "-Infinity"
    if isinstance(key, _DATES):
        return key.isoformat()
    if isinstance(key, bytes):
        return base64.b64encode(key).decode()
    return _text(text_of(key))


def _text(value: str) -> str:
    text = str.__str__(value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate, which nobody else could read
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _integer(value: int) -> int | str:
    if not _INT_MIN <= value <= _INT_MAX:
        return str(int(value))  # JSON readers would round it
    return int(value)


def _open(value: Any) -> Any:
    """What an object stands for: a map, a list, or a scalar in a box."""
    if isinstance(value, (Mapping, list, tuple)):
        return value
    if isinstance(value, AbstractSet):
        # A set has no order, but equal sets must have equal spellings.
        return sorted(value, key=lambda item: (class_name(item), text_of(item)))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, BaseException):  # those that batch and Parallel return in place of results
        return f"{class_name(value)}: {text_of(value)}"
    if not isinstance(value, type):
        if callable(getattr(value, "model_dump", None)):
            return _other(value, _model(value))
        # pydantic models (dspy.History among them); dspy.Prediction and dspy.Example; numpy arrays and scalars.
        for name in ("toDict", "tolist", "to_dict"):
            method = getattr(value, name, None)
            if callable(method):
                return _other(value, method())
    raise EncodeError(f"an object of type {class_name(value)}; maps, lists, str, numbers, bool, bytes and None can be sent")


def _model(value: Any) -> Any:
    """A pydantic model as it writes itself in JSON; where it cannot, or has a form for prompts only (dspy.Image), its fields."""
    try:
        found = value.model_dump(mode="json")
    except Exception:
        found = None
    if found is None or (isinstance(found, str) and found.startswith("<<CUSTOM-TYPE-START-IDENTIFIER>>")):
        return {name: getattr(value, name) for name in type(value).model_fields}
    return found


def _other(value: Any, found: Any) -> Any:
    """What a method gave, unless that is the same again: a walk would not end."""
    if type(found) is type(value):
        raise EncodeError(f"an object of type {class_name(value)}, which gives no plain form of itself")
    return found


def to_wire(value: Any, depth: int = DEPTH, nodes: int = NODES) -> Any:
    """The value made of plain types only, or EncodeError with the place of what cannot be sent."""
    return _Walk(nodes).value(value, depth)
