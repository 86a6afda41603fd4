"""Inputs of the operator's functions and programs: from the values of a request to the types of their annotations.

pydantic does it, as DSPy does for outputs: models, dataclasses, enums, dates and their like from the form that they have in
JSON. An annotation that pydantic does not support accepts everything, as in Python.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any

import dspy
import pydantic
from dspy.adapters.types.base_type import Type

from dspex_worker.guard import text_of

__all__ = ["converter", "spelled"]

KEPT = 1024  # annotations whose adapters are kept
SAID = 200  # characters of a rule in an error


def converter(hint: Any) -> Callable[[Any], Any] | None:
    """What makes the annotation's type of a value, or raises ValueError with the rule that it breaks; None: anything goes."""
    try:
        adapter = _adapter(hint)
    except TypeError:  # an annotation that cannot be hashed
        adapter = _build(hint)
    if adapter is None:
        return None

    def convert(value: Any) -> Any:
        try:
            return adapter.validate_python(value)
        except pydantic.ValidationError as error:
            raise ValueError(_rule(error)) from None
        except Exception as error:  # of a validator in the operator's types
            raise ValueError(text_of(error)[:SAID]) from None

    return convert


@functools.lru_cache(KEPT)
def _adapter(hint: Any) -> Any:
    return _build(hint)


def _build(hint: Any) -> Any:
    try:
        return pydantic.TypeAdapter(_from_json(hint))
    except Exception:  # pydantic cannot, or a name in the annotation cannot be found
        return None


def _rule(error: pydantic.ValidationError) -> str:
    """The rules that are broken and where, never the values."""
    problems = []
    for found in error.errors(include_url=False, include_context=False, include_input=False)[:4]:
        place = ".".join(str(step) for step in found["loc"])
        problems.append(f"{place}: {found['msg']}" if place else found["msg"])
    return "; ".join(problems)[:SAID]


def _from_json(hint: Any) -> Any:
    """The annotation, with DSPy's own types taken in the short form, too: an image as its address."""
    if isinstance(hint, type) and issubclass(hint, Type):
        return Annotated[hint, pydantic.BeforeValidator(_short(hint))]
    if hint is dspy.History:
        return Annotated[hint, pydantic.BeforeValidator(_messages)]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (list, dict, set, tuple):
        return origin[tuple(_from_json(arg) for arg in args)]
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(_from_json(arg) for arg in args)]  # noqa: UP007 - the parts are known at run time only
    return hint


def _short(kind: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if kind is dspy.Tool:
            raise ValueError("a tool is a function: a request cannot contain one")
        # DSPy reads neither files nor addresses here; what is no data URI or address is refused.
        return kind(value) if isinstance(value, str) and kind is dspy.Image else value

    return read


def _messages(value: Any) -> Any:
    return {"messages": value} if isinstance(value, list) else value


def spelled(hint: Any) -> str:
    """The annotation as an error shows it: a short name, with the fields of a model."""
    fields = getattr(hint, "model_fields", None)
    name = getattr(hint, "__name__", None) or str(hint)
    if isinstance(hint, type) and fields and not issubclass(hint, (Type, dspy.History)):
        return f"{name} {{{', '.join(fields)}}}"
    return str(name)
