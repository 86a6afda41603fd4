"""What a call can fail with, and how a failure is reported.

Everything that ends a call without a result becomes one ERROR frame: category, code, message, detail. Nothing here
holds an argument, an output or a key; of a traceback only file names, lines and function names travel.

    Exception
    ├── WorkerError        a failure with a category and a code; user functions may raise it too
    ├── wire.DecodeError   bytes that are not a value        -> communication/bad_frame
    └── wire.EncodeError   a value that has no spelling      -> python/encode_error
    BaseException
    └── Cancelled          raised inside a thread whose call was cancelled
"""

from __future__ import annotations

import os
import re
import traceback
from types import TracebackType
from typing import Any

from dspex_worker.guard import attribute, causes, class_name, inner_errors, text_of

__all__ = [
    "CATEGORIES",
    "Cancelled",
    "WorkerError",
    "bounded",
    "category_of",
    "describe",
    "frames_of",
    "is_out_of_memory",
    "scrub",
    "secrets",
]

CATEGORIES = frozenset(
    {
        "initialization",
        "connection",
        "communication",
        "timeout",
        "resource_error",
        "health_check",
        "session",
        "python",
        "system_error",
    }
)

# A message is for people: longer ones are a payload that somebody put into an exception.
MESSAGE_LIMIT = 4096
# contract/frame.md bounds a traceback to 32 KiB; 50 frames are more than anybody reads.
TRACEBACK_LIMIT = 32 * 1024
TRACEBACK_FRAMES = 50
INNER_SHOWN = 3  # errors of a group that a message names

OUT_OF_MEMORY = "out_of_memory"

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep

# Keys of LM profiles, known since their LM frame. They are cut out of every message and log line, because libraries
# put them there.
secrets: set[str] = set()

# A mistake in the code or in what it was given: the next worker would make it again.
_DETERMINISTIC = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
)


class Cancelled(BaseException):
    """Raised inside the thread of a synchronous user function when its call is cancelled."""


class WorkerError(Exception):
    """A failure with its category (docs/migration.md, "Error categories") and its code.

    A user function may raise it to choose the code, to give a hint, or to mark the error as retryable.
    """

    def __init__(
        self,
        category: str,
        code: str,
        message: str,
        *,
        hint: str | None = None,
        expected: str | None = None,
        path: str | None = None,
        retryable: bool = False,
        retry_after_ms: int | None = None,
        python_type: str | None = None,
        traceback: str | None = None,
        usage: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.category = _category(category)
        self.code = _checked("code", code, str)
        if not _CODE.fullmatch(self.code):
            raise ValueError(f"code must be 1 to 64 lower-case letters, digits and _, got {self.code[:80]!r}")
        self.message = _checked("message", message, str)
        self.hint = _checked("hint", hint, str, None)
        self.expected = _checked("expected", expected, str, None)  # of bad input: what would have been right
        self.path = _checked("path", path, str, None)  # of bad input: where, like args.inputs
        self.retryable = _checked("retryable", retryable, bool)
        self.retry_after_ms = _checked("retry_after_ms", retry_after_ms, int, None)
        self.python_type = _checked("python_type", python_type, str, None)
        self.traceback = _checked("traceback", traceback, str, None)
        self.usage = _checked("usage", usage, dict, None)
        self.lm: dict[str, Any] | None = None  # the language model that failed: {"name", "of_profile"}

    def __str__(self) -> str:
        return text_of(self.message)

    def fields(self) -> tuple[str, str, str, dict[str, Any]]:
        """Category, code, message and detail of the ERROR frame. Whatever was assigned since the start is read once, and guarded."""
        category, code = attribute(self, "category", str), attribute(self, "code", str)
        known = category_of(category or "")
        if known is None or code is None or not _CODE.fullmatch(code):
            known, code = "python", "user_error"
        message = attribute(self, "message", str)
        return known, code, bounded(message if message is not None else text_of(self)), self.detail()

    def detail(self) -> dict[str, Any]:
        """The detail map of the ERROR frame: only what is known."""
        found: dict[str, Any] = {"retryable": bool(attribute(self, "retryable", bool))}
        for key, kind in _DETAILS:
            value = attribute(self, key, kind)
            if value is None or (kind is int and not 0 <= value < 2**63):
                continue
            found[key] = bounded(value, TRACEBACK_LIMIT if key == "traceback" else MESSAGE_LIMIT) if kind is str else value
        return found


_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_DETAILS: tuple[tuple[str, type], ...] = (
    ("hint", str), ("expected", str), ("path", str), ("retry_after_ms", int), ("python_type", str), ("traceback", str),
    ("usage", dict), ("lm", dict),
)  # fmt: skip


def _checked(name: str, value: Any, kind: type, *more: None) -> Any:
    """The value, or the TypeError of the caller that made the error: later its origin would be lost."""
    if type(value) is kind or (more and value is None):
        return value
    if isinstance(value, str) and kind is str:
        return str.__str__(value)
    raise TypeError(f"WorkerError: {name} must be {kind.__name__}{' or None' if more else ''}, got {class_name(value)}")


def category_of(text: str) -> str | None:
    """The category that the text names, with or without the ending _error."""
    bare = text.removesuffix("_error")
    return next((name for name in (bare, f"{bare}_error") if name in CATEGORIES), None)


def _category(value: Any) -> str:
    """One of the nine, which may be given with and without the ending _error."""
    if isinstance(value, str) and (name := category_of(str.__str__(value))) is not None:
        return name
    shown = repr(value)[:80] if isinstance(value, str) else class_name(value)
    raise ValueError(f"category must be one of {', '.join(sorted(CATEGORIES))}, got {shown}")


def scrub(text: str) -> str:
    """The text without keys of LM profiles and without what UTF-8 cannot spell."""
    for secret in secrets:
        if secret in text:
            text = text.replace(secret, "[redacted]")
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def bounded(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """The scrubbed text, cut to limit characters with a mark at the cut."""
    text = scrub(text)
    return text if len(text) <= limit else text[: limit - 20] + " ... (cut)"


def _trace(tb: TracebackType | None) -> list[str]:
    entries = traceback.extract_tb(tb)
    outside = [entry for entry in entries if not os.path.abspath(entry.filename).startswith(_PACKAGE)]
    shown = outside or list(entries)
    lines = [f"  {os.path.basename(entry.filename)}:{entry.lineno} in {entry.name}" for entry in shown]
    if len(lines) > TRACEBACK_FRAMES:
        half = TRACEBACK_FRAMES // 2
        lines[half:-half] = [f"  ... {len(lines) - 2 * half} frames"]
    return lines


def frames_of(error: BaseException) -> str:
    """Where the error came from and what caused it: file name, line and function of each frame, no values."""
    parts: list[str] = []
    for current in causes(error):
        parts.append(("caused by " if parts else "") + class_name(current))
        parts.extend(_trace(current.__traceback__))
        if isinstance(current, BaseExceptionGroup):
            for inner in inner_errors(current)[:INNER_SHOWN]:
                parts.append(f"inner {class_name(inner)}")
                parts.extend(_trace(inner.__traceback__))
        if len(parts) >= 4 * TRACEBACK_FRAMES:
            break
    return bounded("\n".join(parts), TRACEBACK_LIMIT)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether it is a MemoryError or was caused by one: the worker had better be replaced."""
    return isinstance(error, MemoryError) or (isinstance(error, WorkerError) and attribute(error, "code", str) == OUT_OF_MEMORY)


def _message(error: BaseException) -> str:
    """Class and text; of a group also those of the errors in it, without which it means little."""
    name, text = class_name(error), bounded(text_of(error))
    message = f"{name}: {text}" if text else name
    if isinstance(error, BaseExceptionGroup):
        inner = inner_errors(error)
        shown = [_message(leaf) for leaf in inner[:INNER_SHOWN]]
        more = f"; and {len(inner) - INNER_SHOWN} more" if len(inner) > INNER_SHOWN else ""
        message = f"{message}: {'; '.join(shown)}{more}"
    return message


def _may_pass(error: BaseException) -> bool:
    """Whether another attempt may end otherwise: by the error's own attribute, else by its class."""
    if isinstance(error, BaseExceptionGroup):
        return all(_may_pass(inner) for inner in inner_errors(error))
    own = attribute(error, "retryable", bool)
    return own if own is not None else not isinstance(error, _DETERMINISTIC)


def describe(error: BaseException) -> WorkerError:
    """The failure in the form of the wire. WorkerErrors pass through; what user code raised becomes python/user_error."""
    if isinstance(error, WorkerError):
        return error
    if isinstance(error, BaseExceptionGroup):
        alone = inner_errors(error)
        if len(alone) == 1 and isinstance(alone[0], WorkerError):
            return alone[0]
    name = class_name(error)
    if isinstance(error, MemoryError):
        category, code, message, retryable = "resource_error", OUT_OF_MEMORY, text_of(error) or "out of memory", True
        own = attribute(error, "retryable", bool)
        retryable = own if own is not None else retryable
    elif isinstance(error, (SystemExit, KeyboardInterrupt)):
        category, code, retryable = "python", "user_exit", bool(attribute(error, "retryable", bool))
        message = f"the code of the call raised {name}: a call cannot end its worker"
    else:
        category, code, retryable, message = "python", "user_error", _may_pass(error), _message(error)
    return WorkerError(category, code, bounded(message), retryable=retryable, python_type=name, traceback=frames_of(error))
