"""A case of the differential suite: a program, its inputs, and what may differ between plain DSPy and a worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dspex_worker import program

__all__ = ["CASES", "Case", "case", "from_plain"]

T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """One program that runs in both. inputs: as a request has them; plain: as a script has them, where that is something else."""

    id: str
    target: Any
    inputs: Mapping[str, Any] = field(default_factory=dict)
    plain: Callable[[], Mapping[str, Any]] | None = None
    differs: str = ""  # row of differences.py; its text says what
    stream: bool = False
    concurrent: bool = False  # its model calls have no order


CASES: dict[str, Case] = {}


def case(name: str, inputs: Mapping[str, Any] | None = None, **more: Any) -> Callable[[T], T]:
    """Makes a module (object or class) or a function a case, and a program of the worker that imports it."""

    def note(target: T) -> T:
        if name in CASES:
            raise ValueError(f"two cases are called {name}")
        CASES[name] = Case(name, target, inputs if inputs is not None else {"question": "Why?"}, **more)
        return program(name)(target)

    return note


def from_plain(found: Mapping[str, Any], name: str) -> Any:
    """What a script hands to the program."""
    entry = CASES[name]
    return dict(entry.plain() if entry.plain is not None else found)
