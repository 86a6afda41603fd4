"""Reading what user code made: its exceptions and objects may do anything when they are looked at.

An exception whose `__str__` raises, returns None or exits must cost nobody an answer. So nothing outside of this file calls
`str`, `repr` or `getattr` on an object of user code while a failure is reported; each attribute is read once.
"""

from __future__ import annotations

from typing import Any

__all__ = ["attribute", "causes", "class_name", "inner_errors", "text_of"]

_NAME_OF = type.__dict__["__name__"].__get__
_CAUSE, _CONTEXT = BaseException.__dict__["__cause__"].__get__, BaseException.__dict__["__context__"].__get__
_HIDDEN = BaseException.__dict__["__suppress_context__"].__get__
_INNER = BaseExceptionGroup.__dict__["exceptions"].__get__

DEPTH = 64  # causes and levels of groups that are followed


def class_name(value: object) -> str:
    """The name of the value's class, also where its metaclass would return something else."""
    return str.__str__(_NAME_OF(type(value)))


def text_of(value: object) -> str:
    """What `str` gives, as a plain str; where it gives none, what is the matter."""
    try:
        return str.__str__(str(value))
    except BaseException as error:  # SystemExit, too: a text is no reason to end a process
        return f"(its text cannot be had: __str__ raised {class_name(error)})"


def attribute(value: object, name: str, kind: type) -> Any:
    """The attribute if it is there and of exactly that kind, else None."""
    try:
        found = getattr(value, name, None)
    except BaseException:
        return None
    return found if type(found) is kind else None


def causes(error: BaseException) -> list[BaseException]:
    """The error and what it came from, the latest first."""
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and len(found) < DEPTH and all(current is not other for other in found):
        found.append(current)
        current = _CAUSE(current) or (None if _HIDDEN(current) else _CONTEXT(current))
    return found


def inner_errors(error: BaseException, depth: int = DEPTH) -> list[BaseException]:
    """The errors that a group holds, those of groups inside of it in their place; an error that is no group is its own only one."""
    if not isinstance(error, BaseExceptionGroup) or depth == 0:
        return [error]
    return [leaf for inner in _INNER(error) for leaf in inner_errors(inner, depth - 1)]
