"""Which of the shorter ways through DSPy this worker takes.

Each gives what DSPy gives, or leaves the call to DSPy. The variable DSPEX_FAST_PATHS chooses: `all` (the default), `none`, or
some of the names, comma separated.
"""

from __future__ import annotations

import logging
import os

from dspex_worker.errors import WorkerError

__all__ = ["KEPT", "TEXTS", "TRANSPORT", "read", "switch_off", "taken"]

VARIABLE = "DSPEX_FAST_PATHS"
KEPT, TEXTS, TRANSPORT = NAMES = ("kept", "texts", "transport")

_log = logging.getLogger("dspex.worker")
_taken: set[str] = set(NAMES)


def read() -> None:
    """Reads the variable; an `initialization` error if it has another value."""
    text = os.environ.get(VARIABLE, "all")
    names = {"all": list(NAMES), "none": []}.get(text, [name.strip() for name in text.split(",")])
    if not set(names) <= set(NAMES):
        raise WorkerError(
            "initialization",
            "bad_config",
            f"{VARIABLE} must be all, none, or some of {', '.join(NAMES)}, got {text!r}",
            hint="leave the variable out to have all of them",
        )
    _taken.clear()
    _taken.update(names)


def taken(name: str) -> bool:
    """Whether this way is taken."""
    return name in _taken


def switch_off(name: str, reason: str) -> None:
    """Leaves a way permanently, and reports it once."""
    if name in _taken:
        _taken.discard(name)
        _log.warning("the fast path %s has switched itself off: %s; programs run as before, with more processor time", name, reason)
