"""What DSPy makes anew in each call although it depends on the program alone: pydantic classes, above all.

Everything is kept by the class that it depends on, and bounded. The prompts are the same, which the differential suite shows.
"""

from __future__ import annotations

import copy
import functools
import sys
from typing import Any
from weakref import WeakKeyDictionary

import dspy
import jsonschema
from dspy.adapters import base
from dspy.adapters.types import tool
from dspy.predict import react

__all__ = ["install"]

TRAJECTORIES = 512  # shapes of trajectories: names of steps, tools' names are no part of them
WRAPPERS = 1024  # types of arguments of tools
VALIDATORS = 1024  # schemas of arguments of tools

_Signature, _ChatAdapter = dspy.Signature, dspy.ChatAdapter  # as they are at the start: user code may put others into their place
_delete = dspy.Signature.__dict__["delete"].__func__
_create_model = tool.create_model
_format = base.Adapter.__dict__["format"]
_FORMAT_CODE = getattr(_format, "__wrapped__", _format).__code__

_without: WeakKeyDictionary[Any, dict[str, tuple[str | None, Any]]] = WeakKeyDictionary()


@functools.lru_cache(TRAJECTORIES)
def _trajectory_signature(names: tuple[str, ...]) -> Any:
    return _Signature(f"{', '.join(names)} -> x")


def _format_trajectory(self: Any, trajectory: dict[str, Any]) -> Any:
    """As in DSPy, but for the signature, half of the processor time of an agent."""
    adapter = dspy.settings.adapter or _ChatAdapter()
    return adapter.format_user_message_content(_trajectory_signature(tuple(trajectory)), trajectory)


def _without_field(cls: Any, name: str) -> Any:
    """`Signature.delete`. For the adapter, which takes the history out in each call and changes nothing, the class is kept."""
    if sys._getframe(1).f_code is not _FORMAT_CODE:
        return _delete(cls, name)
    kept = _without.get(cls)
    if kept is None:
        kept = _without[cls] = {}
    found = kept.get(name)
    if found is None or found[0] != cls.__doc__:  # the instructions, the one thing of a signature that may change
        found = kept[name] = (cls.__doc__, _delete(cls, name))
    return found[1]


@functools.lru_cache(WRAPPERS)
def _wrapper(kind: type) -> Any:
    return _create_model("Wrapper", value=(kind, ...))


def _model(name: str, **fields: Any) -> Any:
    """pydantic's create_model for the wrappers of tools' arguments."""
    value = fields.get("value")
    # Only classes: two unions are equal whatever the order of their parts, and the order decides.
    if name == "Wrapper" and len(fields) == 1 and isinstance(value, tuple) and type(value[0]) is type:
        return _wrapper(value[0])
    return _create_model(name, **fields)


_validators: dict[str, Any] = {}


def _validate(instance: Any, schema: Any) -> None:
    """`jsonschema.validate`, which checks the schema itself again each time: most of the work of calling a tool."""
    key = repr(schema)
    validator = _validators.get(key)
    if validator is None:
        kind = jsonschema.validators.validator_for(schema)
        kind.check_schema(schema)
        if len(_validators) >= VALIDATORS:
            _validators.clear()
        validator = _validators[key] = kind(copy.deepcopy(schema))
    error = jsonschema.exceptions.best_match(validator.iter_errors(instance))
    if error is not None:
        raise error


def install() -> None:
    """Puts them into DSPy."""
    tool.validate = _validate
    react.ReAct._format_trajectory = _format_trajectory
    dspy.Signature.delete = classmethod(_without_field)
    tool.create_model = _model
