"""Partial outputs: the language model's chunks, cut to the text outputs that they belong to.

DSPy's own way is not taken. Its `streamify` hands chunks over in a generator, and leaving that early lets the call run
on while its clean-up cancels the task of who reads; its listeners lose text that holds "[[". Here DSPy sends the chunks
straight to the sink, in the task of the call, and the splitter reads them as the chat adapter will read the whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from dspex_worker.engines.dspy_engine.trace import Trace

__all__ = ["Sink", "Splitter"]

_MARK = re.compile(r"\[\[ ## (\w+) ## \]\]")
_MARK_BEGIN, _MARK_END = "[[ ## ", " ## ]]"
_WORD = re.compile(r"\w+")
_LINE_END = re.compile("\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")  # those of str.splitlines, which the adapter uses


class Splitter:
    """Finds the fields in an answer in chat form while it arrives.

    What it emits for a field adds up to exactly the value that the chat adapter reads in the end: lines between marks,
    without white space around them. So white space is held back until something follows it, and a line's beginning as
    long as it may become a mark.
    """

    def __init__(self, fields: Iterable[str], emit: Callable[[str, str], None]) -> None:
        self._fields = frozenset(fields)
        self._emit = emit
        self.reset()

    def reset(self) -> None:
        """Begins a new answer."""
        self._seen: set[str] = set()
        self._field: str | None = None  # the one whose lines these are, if it is wanted
        self._begun = False  # something of it was emitted
        self._held = ""  # white space after what was emitted
        self._line = ""  # beginning of a line that may be a mark
        self._is_text = False  # this line is no mark
        self._after_mark = False  # this line began with a mark
        self._return = False  # the last character was \r; \n may follow

    def feed(self, text: str) -> None:
        """Takes the next piece of the answer."""
        if self._return:
            text, self._return = "\r" + text, False
        if text.endswith("\r"):
            text, self._return = text[:-1], True
        for i, piece in enumerate(_LINE_END.split(text)):
            if i:
                self._end_line()
                self._text("\n")
            if piece:
                self._piece(piece)

    def finish(self) -> None:
        """Takes the end of the answer."""
        self._end_line()

    def _piece(self, piece: str) -> None:
        if self._is_text:
            self._text(piece)
            return
        self._line += piece
        mark = _MARK.match(self._line)
        if mark:
            self._begin(mark.group(1))
            rest, self._line, self._is_text = self._line[mark.end() :], "", True
            self._text(rest)
        elif not _may_be_mark(self._line.lstrip()):
            rest, self._line, self._is_text = self._line, "", True
            self._text(rest)

    def _end_line(self) -> None:
        if self._line:
            mark = _MARK.match(self._line.strip())
            rest = self._line
            if mark:
                self._begin(mark.group(1))
                rest = self._line[mark.end() :]  # counted from the line's beginning, as the adapter does
            self._line = ""
            self._text(rest)
        if self._after_mark:
            self._held = ""
        self._is_text = self._after_mark = False

    def _begin(self, field: str) -> None:
        self._field = field if field in self._fields and field not in self._seen else None
        self._seen.add(field)
        self._begun, self._held, self._after_mark = False, "", True

    def _text(self, text: str) -> None:
        if self._field is None:
            return
        if not self._begun:
            text = text.lstrip()
        body = text.rstrip()
        if body:
            self._emit(self._field, self._held + body)
            self._begun, self._held = True, ""
        if self._begun:
            self._held += text[len(body) :]


def _may_be_mark(begin: str) -> bool:
    """Whether a mark may begin so; a mark itself may."""
    if len(begin) < len(_MARK_BEGIN):
        return _MARK_BEGIN.startswith(begin)
    if not begin.startswith(_MARK_BEGIN):
        return False
    word = _WORD.match(begin, len(_MARK_BEGIN))
    rest = begin[word.end() :] if word else begin[len(_MARK_BEGIN) :]
    return not rest or (word is not None and (_MARK_END.startswith(rest) or rest.startswith(_MARK_END)))


@dataclass
class _Listener:
    """What DSPy looks at to find out whether it shall stream a predictor."""

    predict: Any
    splitter: Splitter


class Sink:
    """Where DSPy sends the chunks of one call."""

    def __init__(self, emit: Callable[[str | None, str], None], trace: Trace, predictors: Iterable[Any]) -> None:
        self._emit = emit
        self._trace = trace
        self.listeners: list[_Listener] = []
        for predictor in predictors:
            fields = [name for name, info in predictor.signature.output_fields.items() if info.annotation is str]
            if fields:
                self.listeners.append(_Listener(predictor, Splitter(fields, self._pass_on)))
        self._by_id = {id(listener.predict): listener.splitter for listener in self.listeners}

    async def send(self, chunk: Any) -> None:
        """Takes a chunk from DSPy."""
        splitter = self._by_id.get(getattr(chunk, "predict_id", None) or 0)
        if splitter is None:
            return
        choice = chunk.choices[0]
        if choice.delta.content:
            splitter.feed(choice.delta.content)
        if choice.finish_reason is not None:
            splitter.finish()
            splitter.reset()

    def _pass_on(self, field: str, text: str) -> None:
        self._trace.chunks += 1
        self._emit(field, text)
