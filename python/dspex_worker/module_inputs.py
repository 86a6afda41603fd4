"""What a program of the operator takes: read from its module object once, checked before each run.

Without it DSPy would run a module whose inputs are missing, and answer from nothing.
"""

from __future__ import annotations

import typing
from typing import Any

from dspex_worker.registry import UserCommand, read_function

__all__ = ["history_of", "read_inputs"]


def read_inputs(module: Any) -> UserCommand | None:
    """The inputs of a module, or of a plain function; None if nothing can be told of them."""
    function = getattr(module, "aforward", None) or getattr(module, "forward", module)
    try:
        found = read_function("execute_program", function)
    except (TypeError, ValueError):  # no signature, or parameters that have no name
        return None
    if found.known is not None:
        return found
    fields = _fields(module)
    if fields is None:
        return found
    hints = {name: Any if _untyped(entry) else entry.annotation for name, entry in fields.items()}
    # DSPy itself fills in defaults and takes None for what may be None.
    required = frozenset(name for name, hint in hints.items() if fields[name].is_required() and not _optional(hint))
    return UserCommand(found.name, function, False, False, hints, required, frozenset(fields))


def history_of(inputs: UserCommand | None) -> str | None:
    """The input that takes the conversation so far: the one whose annotation is dspy.History."""
    if inputs is None:
        return None
    return next((name for name, hint in inputs.hints.items() if _is_history(hint)), None)


def _fields(module: Any) -> dict[str, Any] | None:
    """The input fields of one of DSPy's own modules, whose forward takes any name; a subclass may do with them what it likes."""
    if type(module).__module__.partition(".")[0] != "dspy":
        return None
    signature = getattr(module, "signature", None)
    if signature is None:  # ChainOfThought is one predictor inside; Refine and BestOfN hold a module
        inner = module.predictors()
        signature = inner[0].signature if len(inner) == 1 else None
    return getattr(signature, "input_fields", None)


def _untyped(entry: Any) -> bool:
    """Whether a signature in short form says no type: then DSPy takes anything."""
    return bool((getattr(entry, "json_schema_extra", None) or {}).get("IS_TYPE_UNDEFINED"))


def _is_history(hint: Any) -> bool:
    return any(getattr(part, "__name__", "") == "History" for part in (hint, *typing.get_args(hint)))


def _optional(hint: Any) -> bool:
    return type(None) in typing.get_args(hint) or _is_history(hint)
