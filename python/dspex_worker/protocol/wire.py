"""Values in MessagePack (contract/values.md). No frames here.

`decode` and `encode` are one codec with two speeds. The specification is the pure Python codec of this file. When msgspec is
installed, it does the work wherever a cheap test proves that it must give the same result. The pure codec judges the rest:
strange bytes, strange objects, everything that is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any

from dspex_worker.signatures.plain import DEPTH, NODES, EncodeError, Placed, fold, to_wire

try:
    import msgspec
except ImportError:
    _msgspec: Any = None
else:
    _msgspec = msgspec

__all__ = [
    "CODEC",
    "DEPTH",
    "NODES",
    "DecodeError",
    "EncodeError",
    "decode",
    "encode",
    "encode_answer",
    "plain",
    "pure_decode",
    "pure_encode",
    "read_shortest",
    "to_wire",
]

CODEC = f"msgspec {_msgspec.__version__}" if _msgspec else "stdlib"


class DecodeError(Placed):
    """Bytes that are not one value of values.md. problem is a short code shared with the Go side."""

    def __init__(self, problem: str, expected: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.expected = expected

    def within(self, step: int | str) -> None:
        """As in every Placed; too many values are a matter of the whole value, wherever that was detected."""
        if self.problem != "too_large":
            super().within(step)

    def __str__(self) -> str:
        return f"{self.problem} at {self.path or 'the top'}: expected {self.expected}"


# ---- the pure codec

_F32, _F64 = struct.Struct(">f"), struct.Struct(">d")
_INT_SIZES = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_STR_SIZES = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_BIN_SIZES = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_ARRAY_SIZES = {0xDC: 2, 0xDD: 4}
_MAP_SIZES = {0xDE: 2, 0xDF: 4}


class _Parser:
    """Walks one value; every declared length is held against the bytes that are there before anything is made."""

    def __init__(self, data: bytes, depth: int, nodes: int, any_case: bool) -> None:
        self.data = data
        self.any_case = any_case
        self.pos = 0
        self.depth = depth
        self.nodes = nodes

    def take(self, count: int) -> bytes:
        end = self.pos + count
        if end > len(self.data):
            raise DecodeError("truncated", f"{count} more bytes, {len(self.data) - self.pos} are left")
        piece = self.data[self.pos : end]
        self.pos = end
        return piece

    def uint(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def text(self, size: int) -> str:
        try:
            return self.take(size).decode("utf-8")
        except UnicodeDecodeError:
            raise DecodeError("bad_encoding", "valid UTF-8") from None

    def value(self, depth: int) -> Any:
        self.nodes -= 1
        if self.nodes < 0:
            raise DecodeError("too_large", "fewer values")
        code = self.take(1)[0]
        if code <= 0x7F:
            return code
        if code >= 0xE0:
            return code - 0x100
        if code <= 0x8F:
            return self.map(code & 0x0F, depth)
        if code <= 0x9F:
            return self.array(code & 0x0F, depth)
        if code <= 0xBF:
            return self.text(code & 0x1F)
        return self.marked(code, depth)

    def marked(self, code: int, depth: int) -> Any:
        if code in _STR_SIZES:
            return self.text(self.uint(_STR_SIZES[code]))
        if code in _INT_SIZES:
            return int.from_bytes(self.take(_INT_SIZES[code]), "big", signed=code >= 0xD0)
        if code in _ARRAY_SIZES:
            return self.array(self.uint(_ARRAY_SIZES[code]), depth)
        if code in _MAP_SIZES:
            return self.map(self.uint(_MAP_SIZES[code]), depth)
        if code == 0xCB:
            return _F64.unpack(self.take(8))[0]
        if code == 0xCA:
            return _F32.unpack(self.take(4))[0]
        if code in _BIN_SIZES:
            return self.take(self.uint(_BIN_SIZES[code]))
        if code in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[code]
        raise DecodeError("bad_type", f"a value of values.md, not the MessagePack code {code:#x}")

    def enter(self, count: int, least: int, depth: int) -> None:
        if depth >= self.depth:
            raise DecodeError("too_deep", f"at most {self.depth} levels")
        if count * least > len(self.data) - self.pos:
            raise DecodeError("truncated", f"{count} entries, {len(self.data) - self.pos} bytes are left")
        if count * least > self.nodes:
            raise DecodeError("too_large", "fewer values")

    def array(self, count: int, depth: int) -> list[Any]:
        self.enter(count, 1, depth)
        found: list[Any] = []
        try:
            for _ in range(count):
                found.append(self.value(depth + 1))
        except DecodeError as error:
            error.within(len(found))
            raise
        return found

    def map(self, count: int, depth: int) -> dict[str, Any]:
        self.enter(count, 2, depth)
        found: dict[str, Any] = {}
        folded: set[str] = set()
        for _ in range(count):
            key = self.value(depth + 1)
            if type(key) is not str:
                raise DecodeError("bad_type", "str keys")
            try:
                if key in found:
                    raise DecodeError("duplicate_key", "each key once")
                if not self.any_case:
                    plain = fold(key)
                    if plain in folded:
                        raise DecodeError("key_case", "no two keys that differ only by case")
                    folded.add(plain)
                found[key] = self.value(depth + 1)
            except DecodeError as error:
                error.within(key)
                raise
        return found


def pure_decode(data: bytes, depth: int = DEPTH, nodes: int = NODES, any_case: bool = False) -> Any:
    """One whole value from the bytes, or DecodeError with its place. any_case: keys of a map may differ by case only."""
    parser = _Parser(data, depth, nodes, any_case)
    value = parser.value(0)
    if parser.pos != len(data):
        raise DecodeError("trailing", f"the end after {parser.pos} bytes, {len(data) - parser.pos} follow")
    return value


def _head(out: bytearray, count: int, short: int, limit: int, codes: Iterable[int]) -> None:
    """The shortest head that can contain count: in the code itself below limit, else a code with 1, 2 or 4 bytes."""
    if count < limit:
        out.append(short | count)
        return
    for code, size in zip(codes, (1, 2, 4), strict=True):
        if code and count < 1 << (8 * size):
            out.append(code)
            out += count.to_bytes(size, "big")
            return


def _write_int(out: bytearray, value: int) -> None:
    if -32 <= value <= 0x7F:
        out.append(value & 0xFF)
        return
    codes = (0xCC, 0xCD, 0xCE, 0xCF) if value >= 0 else (0xD0, 0xD1, 0xD2, 0xD3)
    bits = value.bit_length() if value >= 0 else (value + 1).bit_length() + 1
    for code, size in zip(codes, (1, 2, 4, 8), strict=True):
        if bits <= 8 * size:
            out.append(code)
            out += value.to_bytes(size, "big", signed=value < 0)
            return


def _write(out: bytearray, value: Any) -> None:
    if value is None:
        out.append(0xC0)
    elif value is True or value is False:
        out.append(0xC3 if value else 0xC2)
    elif type(value) is str:
        text = value.encode("utf-8")
        _head(out, len(text), 0xA0, 32, (0xD9, 0xDA, 0xDB))
        out += text
    elif type(value) is int:
        _write_int(out, value)
    elif type(value) is float:
        out.append(0xCB)
        out += _F64.pack(value)
    elif type(value) is bytes:
        _head(out, len(value), 0, 0, (0xC4, 0xC5, 0xC6))
        out += value
    elif type(value) is list:
        _head(out, len(value), 0x90, 16, (0, 0xDC, 0xDD))
        for item in value:
            _write(out, item)
    else:
        _head(out, len(value), 0x80, 16, (0, 0xDE, 0xDF))
        for key in sorted(value):
            _write(out, key)
            _write(out, value[key])


def pure_encode(value: Any, depth: int = DEPTH, nodes: int = NODES) -> bytes:
    """The value in canonical form, or EncodeError with the place of what has no spelling."""
    out = bytearray()
    _write(out, to_wire(value, depth, nodes))
    return bytes(out)


# ---- the fast way

_SCALARS = frozenset({type(None), bool, int, float, str, bytes})


def _weigh(value: Any, left: int, depth: int, any_case: bool) -> int:
    """Nodes left after the value; negative when it is not plainly fine and the pure codec has to judge."""
    kind = type(value)
    if kind is dict:
        size = len(value)
        left -= 1 + 2 * size
        if size > 1 and not any_case:
            try:
                if len(set(map(str.casefold, value))) != size:
                    return -1
            except TypeError:  # a key that is no str
                return -1
        else:
            for key in value:
                if type(key) is not str:
                    return -1
        children: Iterable[Any] = value.values()
    elif kind is list:
        size = len(value)
        left -= 1 + size
        children = value
    else:
        return left - 1 if kind in _SCALARS else -1
    if left < 0 or depth == 0:
        return -1
    # The set costs less than the loop where there is much to look at.
    if size > 16 and _SCALARS.issuperset(map(type, children)):
        return left
    for child in children:
        if type(child) not in _SCALARS:
            left = _weigh(child, left + 1, depth - 1, any_case)
            if left < 0:
                return -1
    return left


_FLOATS = 16  # that are looked at one by one


def _may_hold_nan(data: bytes) -> bool:
    """Whether bytes are there that begin every NaN, which msgspec writes with the bits that it has.

    The search for one byte is fifty times faster than that for two, so few floats cost nothing in a large text.
    """
    at = data.find(b"\xcb")
    for _ in range(_FLOATS):
        if at < 0:
            return False
        if data[at + 1 : at + 2] in (b"\x7f", b"\xff"):
            return True
        at = data.find(b"\xcb", at + 1)
    return data.find(b"\xcb\x7f", at) >= 0 or data.find(b"\xcb\xff", at) >= 0


def _fast_codec() -> tuple[Callable[..., Any], Callable[..., bytes], Callable[[bytes], Any], Callable[[Any, list[Any]], bytes]]:
    read = _msgspec.msgpack.Decoder().decode
    same = _msgspec.msgpack.Encoder().encode
    canonical = _msgspec.msgpack.Encoder(order="deterministic").encode

    def fast_decode(data: bytes, depth: int = DEPTH, nodes: int = NODES, any_case: bool = False) -> Any:
        try:
            value = read(data)
            # Equal bytes prove the shortest forms, no key twice and no extension; the rest is weighed.
            if same(value) == data and _weigh(value, nodes, depth, any_case) >= 0:
                return value
        except (ValueError, OverflowError, RecursionError, TypeError):
            pass
        return pure_decode(data, depth, nodes, any_case)

    def fast_encode(value: Any, depth: int = DEPTH, nodes: int = NODES) -> bytes:
        if _weigh(value, nodes, depth, True) >= 0:
            try:
                data: bytes = canonical(value)
                if not _may_hold_nan(data):
                    return data
            except (ValueError, OverflowError, TypeError):
                pass
        return bytes(canonical(to_wire(value, depth, nodes)))

    def fast_read(data: bytes) -> Any:
        try:
            value = read(data)
            if same(value) == data:
                return value
        except (ValueError, OverflowError, RecursionError, TypeError):
            pass
        return None

    def fast_answer(value: Any, rest: list[Any]) -> bytes:
        if _weigh(value, NODES - _REST, DEPTH - 1, True) >= 0:
            try:
                data: bytes = canonical([value, *rest])
                if not _may_hold_nan(data):
                    return data
            except (ValueError, OverflowError, TypeError):
                pass
        return fast_encode([value, *rest])

    return fast_decode, fast_encode, fast_read, fast_answer


_REST = 512  # values and keys of what an answer holds beside its value, at most

decode: Callable[..., Any]
encode: Callable[..., bytes]
# The value of bytes in their shortest forms, of which `plain` reports whether `decode` would give it; None: `decode` has to judge.
read_shortest: Callable[[bytes], Any]
# encode([value, *rest]) for a rest that is plain: only the value is weighed.
encode_answer: Callable[[Any, list[Any]], bytes]


def _pure_read(data: bytes) -> Any:
    return None


def _pure_answer(value: Any, rest: list[Any]) -> bytes:
    return pure_encode([value, *rest])


if _msgspec:
    decode, encode, read_shortest, encode_answer = _fast_codec()
else:
    decode, encode, read_shortest, encode_answer = pure_decode, pure_encode, _pure_read, _pure_answer


def plain(value: Any, nodes: int = NODES, depth: int = DEPTH) -> bool:
    """Whether a value that `read_shortest` gave is one that `decode` would give, too."""
    return _weigh(value, nodes, depth, False) >= 0
