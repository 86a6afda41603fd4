"""Answers in the form of DSPy's adapters, read while they arrive: each piece of a text output as soon as it is certain.

What a splitter emits for a field adds up to exactly the value that the adapter reads in the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Protocol
from xml.parsers import expat

__all__ = ["JSONSplitter", "Reader", "Splitter", "XMLSplitter"]

_MARK = re.compile(r"\[\[ ## (\w+) ## \]\]")
_MARK_BEGIN, _MARK_END = "[[ ## ", " ## ]]"
_WORD = re.compile(r"\w+")
_LINE_END = re.compile("\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")  # those of str.splitlines, which the adapter uses


class Reader(Protocol):
    """Reads one answer."""

    def feed(self, text: str) -> None:
        """Takes the next piece of the answer."""

    def finish(self) -> None:
        """Takes the end of the answer."""


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
        self._field: str | None = None  # the one whose lines these are, if it is streamed
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


_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class JSONSplitter:
    """Finds the text fields of an answer that is one JSON object, with or without words around it."""

    def __init__(self, fields: Iterable[str], emit: Callable[[str, str], None]) -> None:
        self._fields = frozenset(fields)
        self._emit = emit
        self._depth = 0  # of objects and arrays that are open
        self._key: str | None = None  # the key whose value comes next, in the outermost object
        self._is_key = False  # the next text in the outermost object is a key
        self._inside = False  # of a text
        self._wanted = False  # that text is the value of a field
        self._escape = ""  # an escape that has begun
        self._high = ""  # the first half of a pair of surrogates
        self._text: list[str] = []
        self._seen: set[str] = set()
        self._over = False

    def feed(self, text: str) -> None:
        """Takes the next piece of the answer."""
        for char in text:
            if self._over:
                break
            if self._inside:
                self._in_text(char)
            else:
                self._between(char)
        self._flush()

    def finish(self) -> None:
        """Takes the end of the answer."""
        self._flush()

    def _between(self, char: str) -> None:
        if char == '"' and self._depth:
            self._inside = True
            self._wanted = self._depth == 1 and not self._is_key and self._key in self._fields and self._key not in self._seen
            if self._wanted and self._key is not None:
                self._seen.add(self._key)
            self._text.clear()
        elif char in "{[":
            self._depth += char == "{" or self._depth > 0
            self._is_key = self._depth == 1
        elif char in "}]" and self._depth:
            self._depth -= 1
            self._over = self._depth == 0
        elif self._depth == 1 and char in ",:":
            self._is_key = char == ","

    def _in_text(self, char: str) -> None:
        if self._escape:
            self._escape += char
            if self._escape[1] != "u":
                self._take(_ESCAPES.get(char, char))
                self._escape = ""
            elif len(self._escape) == 6:
                self._unicode(self._escape[2:])
                self._escape = ""
        elif char == "\\":
            self._escape = char
        elif char == '"':
            self._flush()
            self._inside = self._wanted = False
            if self._depth == 1 and self._is_key:
                self._key = "".join(self._text)
                self._text.clear()
            else:
                self._text.clear()
        else:
            self._take(char)

    def _unicode(self, digits: str) -> None:
        try:
            code = int(digits, 16)
        except ValueError:
            return
        if 0xD800 <= code < 0xDC00:
            self._high = chr(code)
        elif self._high and 0xDC00 <= code < 0xE000:
            self._take((self._high + chr(code)).encode("utf-16", "surrogatepass").decode("utf-16"))
            self._high = ""
        else:
            self._take(chr(code))

    def _take(self, text: str) -> None:
        if self._wanted or (self._depth == 1 and self._is_key):
            self._text.append(text)

    def _flush(self) -> None:
        if self._wanted and self._text and self._key is not None:
            self._emit(self._key, "".join(self._text))
            self._text.clear()


class XMLSplitter:
    """Finds the text fields of an answer in XML, without white space around the values."""

    def __init__(self, fields: Iterable[str], emit: Callable[[str, str], None]) -> None:
        self._fields = frozenset(fields)
        self._emit = emit
        self._path: list[str] = []
        self._seen: set[str] = set()
        self._held = ""  # white space that may be the last
        self._begun = False
        self._broken = False
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self.feed("<answer>")  # the answer's elements need one around them

    def feed(self, text: str) -> None:
        """Takes the next piece of the answer."""
        if not self._broken:
            try:
                self._parser.Parse(text, False)
            except expat.ExpatError:  # the adapter will refuse the answer, and report why
                self._broken = True

    def finish(self) -> None:
        """Takes the end of the answer."""

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._path.append(name)
        if len(self._path) == 2:
            self._begun, self._held = False, ""

    def _end(self, name: str) -> None:
        if len(self._path) == 2:
            self._seen.add(name)
        self._path.pop()

    def _text(self, text: str) -> None:
        if len(self._path) != 2 or self._path[1] not in self._fields or self._path[1] in self._seen:
            return
        if not self._begun:
            text = text.lstrip()
        body = text.rstrip()
        if body:
            self._emit(self._path[1], self._held + body)
            self._begun, self._held = True, ""
        if self._begun:
            self._held += text[len(body) :]
