"""What a program of the operator takes and gives: read from its module object once, its inputs checked before each run.

Without it DSPy would run a module whose inputs are missing, and answer from nothing.
"""

from __future__ import annotations

import typing
from typing import Any

from dspex_worker.registry import UserCommand, read_function, spell

__all__ = ["history_of", "method_of", "read_inputs", "read_signature"]


def method_of(module: Any) -> Any:
    """What a job runs of a module: its `aforward`, unless its class has a `forward` that is nearer; the module itself if it has neither."""
    found = [(_distance(module, name), name) for name in ("aforward", "forward") if callable(getattr(module, name, None))]
    return getattr(module, min(found)[1]) if found else module


def _distance(module: Any, name: str) -> int:
    """How far away it is defined: on the object itself, in its class, or in the n-th one that the class comes from."""
    homes = [getattr(module, "__dict__", {}), *map(vars, type(module).__mro__)]
    return next((n for n, home in enumerate(homes) if name in home), len(homes))


def read_inputs(module: Any) -> UserCommand | None:
    """The inputs of a module, or of a plain function; None if they are unknown."""
    function = method_of(module)
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


def read_signature(module: Any, inputs: UserCommand | None) -> dict[str, Any] | None:
    """The signature in the map form of a request. Outputs are those of DSPy's own modules: of others only their code has them."""
    if inputs is None:
        return None
    of_dspy = _signature(module) if _is_dspys_own(module) else None
    declared = of_dspy.input_fields if of_dspy is not None else {}
    text = of_dspy.instructions if of_dspy is not None else (type(module).__doc__ or "")
    return {
        "name": getattr(of_dspy, "__name__", type(module).__name__),
        "description": " ".join(str(text).split()),
        "inputs": [
            {
                "name": name,
                "type": _type(inputs.hints.get(name, Any)),
                "description": _described(declared.get(name), name),
                "required": name in inputs.required,
            }
            for name in _ordered(inputs)
        ],
        "outputs": [
            {"name": name, "type": _type(entry.annotation), "description": _described(entry, name)}
            for name, entry in (of_dspy.output_fields if of_dspy is not None else {}).items()
        ],
    }


def _ordered(inputs: UserCommand) -> list[str]:
    """The inputs in the order of the signature; what has no annotation comes last."""
    known = inputs.known if inputs.known is not None else inputs.required
    return [name for name in inputs.hints if name in known] + sorted(known - inputs.hints.keys())


def _type(hint: Any) -> str:
    return "any" if hint is Any else "history" if _is_history(hint) else spell(hint)


def _described(entry: Any, name: str) -> str:
    """The field's own description; DSPy puts a placeholder where there is none."""
    text = str((getattr(entry, "json_schema_extra", None) or {}).get("desc") or "")
    return "" if text == f"${{{name}}}" else text


def history_of(inputs: UserCommand | None) -> str | None:
    """The input that takes the conversation so far: the one whose annotation is dspy.History."""
    if inputs is None:
        return None
    return next((name for name, hint in inputs.hints.items() if _is_history(hint)), None)


def _fields(module: Any) -> dict[str, Any] | None:
    """The input fields of one of DSPy's own modules, whose forward takes any name; a subclass may do with them what it likes."""
    return getattr(_signature(module), "input_fields", None) if _is_dspys_own(module) else None


def _is_dspys_own(module: Any) -> bool:
    return type(module).__module__.partition(".")[0] == "dspy"


def _signature(module: Any) -> Any:
    signature = getattr(module, "signature", None)
    if signature is None:  # ChainOfThought is one predictor inside; Refine and BestOfN hold a module
        inner = module.predictors()
        signature = inner[0].signature if len(inner) == 1 else None
    return signature


def _untyped(entry: Any) -> bool:
    """Whether a signature in short form has no type: then DSPy takes anything."""
    return bool((getattr(entry, "json_schema_extra", None) or {}).get("IS_TYPE_UNDEFINED"))


def _is_history(hint: Any) -> bool:
    return any(getattr(part, "__name__", "") == "History" for part in (hint, *typing.get_args(hint)))


def _optional(hint: Any) -> bool:
    return type(None) in typing.get_args(hint) or _is_history(hint)
