"""What is reported of a call for its trace: the program, calls of language models, tools. The host makes spans of it.

Nothing here exists for a call that is not traced: `Call.spans` and `spans_var` are None.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from dspex_worker.errors import bounded
from dspex_worker.guard import class_name, text_of

__all__ = ["TEXTS", "Spans", "span_var", "spans_var"]

TEXTS = 2  # bit of CALL's field trace: prompts and answers are requested, too
SPANS = 128  # of one call; more are counted
NAME = 128  # characters
TEXT = 4096  # characters of one prompt or answer
ALL_TEXTS = 64 << 10  # of a call


class Spans:
    """Those of one call, from all of its threads."""

    __slots__ = ("_began", "_left", "_list", "_lock", "_lost", "texts")

    def __init__(self, began: float, texts: bool) -> None:
        self._began = began  # of time.perf_counter
        self.texts = texts
        self._left = ALL_TEXTS
        self._lost = 0
        self._lock = threading.Lock()
        self._list: list[list[Any]] = [["", False, 0, 0, -1, {}]]  # the call itself is the first

    def text(self, value: Any) -> str | None:
        """A prompt or an answer, as much of it as there is room for."""
        cut = bounded(value if isinstance(value, str) else text_of(value), TEXT)
        with self._lock:
            if len(cut) > self._left:
                return None
            self._left -= len(cut)
        return cut

    @contextlib.contextmanager
    def span(self, name: str, attributes: dict[str, Any], *, client: bool = False) -> Iterator[None]:
        """Around what is to be a span. attributes may grow until the end; those that are None are left out."""
        began = time.perf_counter()
        with self._lock:
            at = len(self._list)
            if at < SPANS:
                self._list.append([bounded(name, NAME), client, self._since(began), 0, span_var.get(), {}])
            else:
                self._lost += 1
                at = -1
        if at < 0:
            yield
            return
        token = span_var.set(at)
        try:
            yield
        except BaseException as error:
            attributes["error.type"] = class_name(error)
            raise
        finally:
            span_var.reset(token)
            took = round((time.perf_counter() - began) * 1e6)
            kept = {key: value for key, value in attributes.items() if type(value) in (str, int, float, bool)}
            with self._lock:
                entry = self._list[at]
                entry[3], entry[5] = max(took, 1), kept

    def _since(self, moment: float) -> int:
        return max(round((moment - self._began) * 1e6), 0)

    def report(self, engine: str, command: str, program: Any, code: str | None) -> list[list[Any]]:
        """The list for the host: name, client, start and duration in microseconds, parent, attributes. code: of the call's error."""
        now = self._since(time.perf_counter())
        with self._lock:
            root = self._list[0]
            attributes: dict[str, Any] = {"dspex.engine": engine}
            root[0] = bounded(f"program {program}" if isinstance(program, str) else f"program {command}", NAME)
            if isinstance(program, str):
                attributes["dspex.program"] = bounded(program, NAME)
            if code is not None:
                attributes["error.type"] = code
            if self._lost:
                attributes["dspex.spans_dropped"] = self._lost
            root[3], root[5] = max(now, 1), attributes
            for entry in self._list:
                if entry[3] == 0:  # it still runs, in a thread that outlives the call
                    entry[3] = max(now - entry[2], 1)
            return [list(entry) for entry in self._list]


spans_var: ContextVar[Spans | None] = ContextVar("dspex_spans", default=None)
span_var: ContextVar[int] = ContextVar("dspex_span", default=0)  # the span that runs: its number in the list
