"""What a program of the operator takes: read from its module object once, checked before each run.

Without it DSPy would run a module whose inputs are missing, and answer from nothing.
"""

from __future__ import annotations

import typing
from typing import Any

from dspex_worker.registry import UserCommand, read_function

__all__ = ["read_inputs"]


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
    hints = {name: field.annotation for name, field in fields.items()}
    required = frozenset(name for name, hint in hints.items() if not _optional(hint))
    return UserCommand(found.name, function, False, False, hints, required, frozenset(fields))


def _fields(module: Any) -> dict[str, Any] | None:
    """The input fields of one of DSPy's own modules, whose forward takes any name; a subclass may do with them what it likes."""
    if type(module).__module__.partition(".")[0] != "dspy":
        return None
    signature = getattr(module, "signature", None)
    if signature is None:  # ChainOfThought is one predictor inside
        inner = module.predictors()
        signature = inner[0].signature if len(inner) == 1 else None
    return getattr(signature, "input_fields", None)


def _optional(hint: Any) -> bool:
    return type(None) in typing.get_args(hint) or getattr(hint, "__name__", "") == "History"
