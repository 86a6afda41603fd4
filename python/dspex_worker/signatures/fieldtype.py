"""The types that a field of a signature may have, and their text.

The text is read by an own small grammar. Nothing in it is ever evaluated or imported, so text from outside is safe here;
what is not in the grammar is an error that reports what would be.

    type   = name [ "[" type { "," type } "]" ] { "|" "None" }
    name   = string | str | integer | int | number | float | boolean | bool | list | dict
           | Optional | Literal | any | json | history | dspy.History
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

__all__ = [
    "MAX_DEPTH",
    "MAX_TEXT",
    "InputError",
    "OutputError",
    "SignatureError",
    "SpecError",
    "Type",
    "kind_of",
    "parse_type",
    "short",
]

MAX_DEPTH = 8  # nested types; also keeps the recursion of the parser small
MAX_TEXT = 16 * 1024  # characters of one text: a spec, a type, a description

_SCALARS = {
    "string": "str",
    "str": "str",
    "integer": "int",
    "int": "int",
    "number": "float",
    "float": "float",
    "boolean": "bool",
    "bool": "bool",
    "any": "any",
    "json": "any",
    "history": "history",
    "dspy.History": "history",
}
TYPES_TEXT = "string, integer, number, boolean, list[T], dict[string, T], Optional[T], Literal[...], any or history"

_TOKEN = re.compile(r"""\s*(?:([A-Za-z_][A-Za-z0-9_.]*)|(-?[0-9]{1,19})|('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|([\[\],|]))""")


class SpecError(ValueError):
    """A signature, an input or an output is not as it must be.

    SpecError
    ├── SignatureError   the signature itself
    ├── InputError       the inputs of a call do not fit the signature
    └── OutputError      the outputs of a program do not fit the signature
    """

    def __init__(self, message: str, path: str = "", expected: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.expected = expected


class SignatureError(SpecError):
    """The text or map is not a signature. `path` is where in it, `expected` what may be there."""


class InputError(SpecError):
    """The inputs do not fit the signature. The message names all that is wrong."""


class OutputError(SpecError):
    """The outputs do not fit the signature. The message names all that is wrong."""


@dataclass(frozen=True)
class Type:
    """One type. `args` holds the inner types; of a literal, the values that it allows."""

    kind: str
    args: tuple[Any, ...] = ()

    def text(self) -> str:
        """Return the canonical text, which `parse_type` reads back to an equal type."""
        if self.kind == "literal":
            return "Literal[" + ", ".join(_literal_text(v) for v in self.args) + "]"
        if self.kind == "list":
            return f"list[{self.args[0].text()}]"
        if self.kind == "dict":
            return f"dict[str, {self.args[0].text()}]"
        if self.kind == "optional":
            return f"Optional[{self.args[0].text()}]"
        return self.kind


def _literal_text(value: object) -> str:
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return repr(value)


@lru_cache(maxsize=1024)
def parse_type(text: str, path: str = "type") -> Type:
    """Read a type. `path` is what an error names as the place; SignatureError on anything that is not a type."""
    if len(text) > MAX_TEXT:
        raise SignatureError(f"{path} is too long", path, f"at most {MAX_TEXT} characters")
    parser = _Parser(text, path)
    found = parser.type(1)
    if parser.token:
        raise parser.unexpected("the end of the type")
    return found


class _Parser:
    """Recursive descent over the tokens of one text, one token ahead."""

    def __init__(self, text: str, path: str) -> None:
        self.text = text
        self.path = path
        self.at = 0
        self.kind = 0  # group of the token: 1 name, 2 integer, 3 quoted text, 4 punctuation, 0 end
        self.token = ""
        self.next()

    def next(self) -> None:
        match = _TOKEN.match(self.text, self.at)
        if match:
            self.at, self.kind = match.end(), match.lastindex or 0
            self.token = match.group(self.kind)
        elif self.text[self.at :].strip():
            raise SignatureError(
                f"{self.path}: cannot read {short(self.text[self.at :].strip())!r} in the type {short(self.text)!r}",
                self.path,
                TYPES_TEXT,
            )
        else:
            self.kind, self.token = 0, ""

    def unexpected(self, expected: str) -> SignatureError:
        found = f"{short(self.token)!r}" if self.token else "the end"
        return SignatureError(f"{self.path}: expected {expected}, found {found} in the type {short(self.text)!r}", self.path, expected)

    def accept(self, token: str) -> bool:
        if self.kind == 4 and self.token == token:
            self.next()
            return True
        return False

    def need(self, token: str) -> None:
        if not self.accept(token):
            raise self.unexpected(f"'{token}'")

    def type(self, depth: int) -> Type:
        if depth > MAX_DEPTH:
            raise SignatureError(f"{self.path}: the type {short(self.text)!r} is nested too deep", self.path, f"at most {MAX_DEPTH} levels")
        found = self.named(depth)
        while self.accept("|"):
            if self.token != "None":
                raise self.unexpected("'None': no other union is supported")
            self.next()
            found = found if found.kind == "optional" else Type("optional", (found,))
        return found

    def named(self, depth: int) -> Type:
        name = self.token
        if self.kind != 1:
            raise self.unexpected(f"a type: {TYPES_TEXT}")
        self.next()
        if name in _SCALARS:
            return Type(_SCALARS[name])
        if name == "list":
            return Type("list", (self.inner(depth),))
        if name == "dict":
            return Type("dict", (self.dict_values(depth),))
        if name == "Optional":
            self.need("[")
            inner = self.type(depth + 1)
            self.need("]")
            return inner if inner.kind == "optional" else Type("optional", (inner,))
        if name == "Literal":
            return self.literal()
        raise SignatureError(f"{self.path}: unknown type {short(name)!r}", self.path, TYPES_TEXT)

    def inner(self, depth: int) -> Type:
        if not self.accept("["):
            return Type("any")
        found = self.type(depth + 1)
        self.need("]")
        return found

    def dict_values(self, depth: int) -> Type:
        if not self.accept("["):
            return Type("any")
        if self.token not in ("string", "str"):
            raise self.unexpected("'string' as the type of the keys")
        self.next()
        self.need(",")
        found = self.type(depth + 1)
        self.need("]")
        return found

    def literal(self) -> Type:
        self.need("[")
        values: list[Any] = []
        while True:
            value = self.literal_value()
            if any(value == other and type(value) is type(other) for other in values):
                raise self.unexpected("each value of a Literal once")
            values.append(value)
            if not self.accept(","):
                break
        self.need("]")
        return Type("literal", tuple(values))

    def literal_value(self) -> str | int | bool:
        kind, token = self.kind, self.token
        if kind == 3:
            value: str | int | bool = re.sub(r"\\(.)", r"\1", token[1:-1])
            if not str(value).isprintable():
                raise self.unexpected("printable text in a Literal")
        elif kind == 2:
            value = int(token)
            if not -(2**63) <= value < 2**63:
                raise self.unexpected("an integer of 64 bits in a Literal")  # pydantic matches no other, whatever the model answers
        elif kind == 1 and token in ("True", "False"):
            value = token == "True"
        else:
            raise self.unexpected("quoted text, an integer, True or False in a Literal")
        self.next()
        return value


def short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def kind_of(value: object) -> str:
    """Name the kind of a value, in the words of the grammar, for an error."""
    if value is None:
        return "null"
    names = {bool: "boolean", int: "integer", float: "number", str: "string", bytes: "binary", list: "list", dict: "map"}
    return names.get(type(value), type(value).__name__)
