"""What a call can fail with, and how a failure is told.

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
import traceback
from types import TracebackType
from typing import Any

__all__ = ["CATEGORIES", "Cancelled", "WorkerError", "bounded", "describe", "frames_of", "is_out_of_memory", "scrub", "secrets"]

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
    """A failure that knows its category (docs/migration.md, "Error categories") and its code.

    A user function may raise it to choose the code, to give a hint, or to say that a retry is of use.
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
        if category not in CATEGORIES:
            raise ValueError(f"category must be one of {', '.join(sorted(CATEGORIES))}, not {category!r}")
        super().__init__(message)
        self.category = category
        self.code = code
        self.message = message
        self.hint = hint
        self.expected = expected  # of bad input: what would have been right
        self.path = path  # of bad input: where, like args.inputs
        self.retryable = retryable
        self.retry_after_ms = retry_after_ms
        self.python_type = python_type
        self.traceback = traceback
        self.usage = usage

    def detail(self) -> dict[str, Any]:
        """The detail map of the ERROR frame: only what is known."""
        found: dict[str, Any] = {"retryable": self.retryable}
        for key in ("hint", "expected", "path", "retry_after_ms", "python_type", "traceback", "usage"):
            value = getattr(self, key)
            if value is not None:
                found[key] = bounded(value) if key in ("hint", "expected", "path", "python_type") else value
        return found


def scrub(text: str) -> str:
    """The text without keys of LM profiles and without what UTF-8 cannot spell."""
    for secret in secrets:
        if secret in text:
            text = text.replace(secret, "[redacted]")
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def bounded(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """The scrubbed text, cut to limit characters with a mark that says so."""
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
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(parts) < 4 * TRACEBACK_FRAMES:
        seen.add(id(current))
        parts.append(("caused by " if parts else "") + type(current).__name__)
        parts.extend(_trace(current.__traceback__))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return bounded("\n".join(parts), TRACEBACK_LIMIT)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether it is a MemoryError or tells of one: the worker had better be replaced."""
    return isinstance(error, MemoryError) or (isinstance(error, WorkerError) and error.code == OUT_OF_MEMORY)


def describe(error: BaseException) -> WorkerError:
    """The failure as the wire tells it. WorkerErrors pass through; what user code raised becomes python/user_error."""
    if isinstance(error, WorkerError):
        return error
    name = type(error).__name__
    text = str(error)
    if isinstance(error, MemoryError):
        category, code, message, retryable = "resource_error", OUT_OF_MEMORY, text or "out of memory", True
    elif isinstance(error, (SystemExit, KeyboardInterrupt)):
        category, code, retryable = "python", "user_exit", False
        message = f"the code of the call raised {name}: a call cannot end its worker"
    else:
        category, code, retryable = "python", "user_error", not isinstance(error, _DETERMINISTIC)
        message = f"{name}: {text}" if text else name
    own = getattr(error, "retryable", None)
    return WorkerError(
        category,
        code,
        bounded(message),
        retryable=own if isinstance(own, bool) else retryable,
        python_type=name,
        traceback=frames_of(error),
    )
