"""What DSPy rebuilds in each call although it depends on the program alone: pydantic classes, above all.

Everything is kept by the class that it depends on, and bounded. The prompts are the same, which the differential suite shows.
"""

from __future__ import annotations

import copy
import functools
import json
import re
import sys
import weakref
from typing import Any, get_origin
from weakref import WeakKeyDictionary

import dspy
import jsonschema
from dspy.adapters import base, chat_adapter, decision
from dspy.adapters import utils as adapter_utils
from dspy.adapters.types import tool
from dspy.predict import predict, react
from dspy.signatures.signature import SignatureMeta

__all__ = ["install"]

TRAJECTORIES = 512  # shapes of trajectories: names of steps, tools' names are no part of them
WRAPPERS = 1024  # types of arguments of tools
VALIDATORS = 1024  # schemas of arguments of tools

_Signature, _ChatAdapter = dspy.Signature, dspy.ChatAdapter  # as they are at the start: user code may put others into their place
_delete = dspy.Signature.__dict__["delete"].__func__
_create_model = tool.create_model
_format = base.Adapter.__dict__["format"]
_fields_of = SignatureMeta._get_fields_with_type
_resolve_adapter = decision.resolve_adapter
_parse_value = chat_adapter.parse_value
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


class _Fields:
    """What follows from the fields of a signature, as long as it has the same."""

    def __init__(self, cls: weakref.ref[Any], fields: dict[str, Any]) -> None:
        self.cls = cls
        self.fields = dict(fields)
        self.by_kind: dict[str, dict[str, Any]] = {}
        self.decides: bool | None = None


_known: dict[int, _Fields] = {}  # by the identity of the signature, which is looked at twenty times in each call


def _known_of(cls: Any) -> _Fields:
    key, fields = id(cls), cls.__dict__.get("__pydantic_fields__", {})
    found = _known.get(key)
    if found is None or found.cls() is not cls or found.fields != fields:  # a look at the identities, where they are the same
        found = _known[key] = _Fields(weakref.ref(cls, lambda _: _known.pop(key, None)), fields)
    return found


def _fields_with_type(cls: Any, field_type: str) -> dict[str, Any]:
    """The inputs or the outputs of a signature, which DSPy picks out of all fields each time."""
    by_kind = _known_of(cls).by_kind
    found = by_kind.get(field_type)
    if found is None:
        found = by_kind[field_type] = _fields_of(cls, field_type)
    return dict(found)


def _decides(signature: Any) -> bool:
    """Whether an output is, or holds, one of DSPy's decisions, which have a way of their own through an adapter."""
    known = _known_of(signature)
    if known.decides is None:
        kinds = (decision.Noul, decision.Choice, decision.Score)
        known.decides = any(
            kind.extract_custom_type_from_annotation(annotation)
            for field in signature.output_fields.values()
            for annotation in (field.annotation, field.rebuild_annotation(), *field.metadata)
            for kind in kinds
        )
    return known.decides


def _adapter_for(lm: Any, adapter: Any, signature: Any, fields: Any, declared_signature: Any = None) -> Any:
    """`resolve_adapter`, which looks for decisions in every call."""
    if type(fields) is dict and not fields and getattr(lm, "supports_decision_requests", False) is not True and not _decides(signature):
        return adapter
    return _resolve_adapter(lm, adapter, signature, fields, declared_signature)


_BOOLEANS = {"True": True, "true": True, "False": False, "false": False}
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,14})")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?")


def _parsed(value: Any, annotation: Any) -> Any:
    """`parse_value` for what models write most: plain numbers and booleans, and JSON that needs no repair."""
    if type(value) is str:
        if annotation is bool:
            if value in _BOOLEANS:
                return _BOOLEANS[value]
        elif annotation is int:
            if _INTEGER.fullmatch(value):
                return int(value)
        elif annotation is float:
            if _NUMBER.fullmatch(value):
                return float(value if "." in value else int(value))  # -0 is 0
        elif get_origin(annotation) in (list, dict):
            try:
                return adapter_utils.TypeAdapter(annotation).validate_python(json.loads(value))
            except ValueError:
                pass  # DSPy repairs it, or reports what is wrong
    return _parse_value(value, annotation)


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
    SignatureMeta._get_fields_with_type = _fields_with_type
    predict.resolve_adapter = _adapter_for
    chat_adapter.parse_value = _parsed
