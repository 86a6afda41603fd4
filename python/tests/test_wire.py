"""The codec: the shared vectors, both speeds against each other, and what Python objects become."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import math
import pathlib
import random
import re
import struct
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dspex_worker.protocol import bodies, wire
from dspex_worker.protocol.frames import FrameType
from dspex_worker.protocol.wire import DecodeError, EncodeError

VECTORS = json.loads((Path(__file__).parents[2] / "contract" / "vectors" / "values.json").read_text("utf-8"))["values"]
READ = [entry for entry in VECTORS if "msgpack_hex" in entry]
CODECS = [pytest.param(wire.decode, wire.encode, id="fast"), pytest.param(wire.pure_decode, wire.pure_encode, id="pure")]

Decode = Callable[..., Any]
Encode = Callable[..., bytes]


def test_the_fast_codec_is_in_use() -> None:
    assert wire.CODEC.startswith("msgspec ")
    assert wire.decode is not wire.pure_decode


@pytest.mark.parametrize(("decode", "encode"), CODECS)
@pytest.mark.parametrize("entry", READ, ids=lambda entry: entry["name"])
def test_vector(entry: dict[str, Any], decode: Decode, encode: Encode) -> None:
    data = bytes.fromhex(entry["msgpack_hex"])
    nodes = entry.get("nodes", wire.NODES)
    if "refuse" in entry:
        with pytest.raises(DecodeError) as caught:
            decode(data, nodes=nodes)
        assert caught.value.problem == entry["refuse"]
        assert caught.value.path == entry.get("path", "")
    else:
        value = decode(data, nodes=nodes)
        assert encode(value, nodes=nodes).hex() == entry["canonical_hex"]


def random_value(rng: random.Random, depth: int) -> Any:
    kinds: list[Callable[[], Any]] = [
        lambda: None,
        lambda: rng.random() < 0.5,
        lambda: rng.choice([0, -1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63, 2**64 - 1, -32, -33, -128, -129, -(2**63)]),
        lambda: rng.randint(-(2**63), 2**64 - 1) >> rng.randint(0, 63),
        lambda: rng.choice([0.0, -0.0, 1.5, math.inf, -math.inf, rng.random() * 10 ** rng.randint(-300, 300)]),
        lambda: "".join(rng.choice("abzAZ0 _-\u00e9\u03c3\u4e16\U0001f600\0") for _ in range(rng.choice([0, 1, 5, 31, 32, 300]))),
        lambda: rng.randbytes(rng.choice([0, 1, 31, 255, 256, 70_000])),
    ]
    if depth:
        size = rng.choice([0, 1, 2, 3, 15, 16, 17])
        kinds += [lambda: [random_value(rng, depth - 1) for _ in range(size)]]
        kinds += [lambda: {f"{rng.choice('abcdef')}{index}": random_value(rng, depth - 1) for index in range(size)}]
    return rng.choice(kinds)()


@pytest.mark.parametrize("seed", range(300))
def test_both_codecs_give_the_same_for_random_values(seed: int) -> None:
    value = random_value(random.Random(seed), 4)
    data = wire.pure_encode(value)
    assert wire.encode(value) == data
    assert wire.decode(data) == wire.pure_decode(data) == value


def outcome(decode: Decode, data: bytes) -> Any:
    """What a decoder makes of the bytes, in a form in which NaN equals itself."""
    try:
        return repr(decode(data))
    except DecodeError as error:
        return error.problem, error.path


@pytest.mark.parametrize("seed", range(300))
def test_both_codecs_judge_damaged_bytes_alike(seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(wire.encode([random_value(rng, 3) for _ in range(4)]))
    for _ in range(20):
        at = rng.randrange(len(data))
        damaged = bytes(data[:at]) + rng.randbytes(rng.randint(0, 3)) + bytes(data[at + rng.randint(0, 3) :])
        assert outcome(wire.decode, damaged) == outcome(wire.pure_decode, damaged)


class Colour(enum.Enum):
    RED = "red"


class Text(str):
    __slots__ = ()


@dataclasses.dataclass
class Point:
    x: int
    tags: set[str]


class Model:
    """Looks like a pydantic model."""

    def model_dump(self, mode: str) -> dict[str, Any]:
        return {"mode": mode, "when": "then"}


class Prediction:
    """Looks like a dspy.Prediction."""

    def toDict(self) -> dict[str, Any]:
        return {"answer": "42", "parts": (1, 2)}


class Scalar:
    """Looks like a numpy scalar."""

    def tolist(self) -> int:
        return 7


OBJECTS = [
    ({"b", "a"}, ["a", "b"]),
    (frozenset({2, 1}), [1, 2]),
    ((1, (2, 3)), [1, [2, 3]]),
    (decimal.Decimal("1.10"), "1.10"),
    (datetime.datetime(2025, 7, 15, 10, 30, tzinfo=datetime.UTC), "2025-07-15T10:30:00+00:00"),
    (datetime.date(2025, 7, 15), "2025-07-15"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (Colour.RED, "red"),
    (Text("sub"), "sub"),
    ({Text("key"): True}, {"key": True}),
    (Point(1, {"t"}), {"x": 1, "tags": ["t"]}),
    (Model(), {"mode": "json", "when": "then"}),
    ({"deep": [Prediction()]}, {"deep": [{"answer": "42", "parts": [1, 2]}]}),
    (Scalar(), 7),
    (bytearray(b"x"), b"x"),
    (pathlib.PurePosixPath("a/b"), "a/b"),
    (datetime.timedelta(minutes=1, milliseconds=500), 60.5),
    (fractions.Fraction(1, 3), "1/3"),
    (complex(1, 2), [1.0, 2.0]),
    (KeyError("gone"), "KeyError: 'gone'"),
    ({"a": 2**64, "b": [-(2**63) - 1]}, {"a": "18446744073709551616", "b": ["-9223372036854775809"]}),
    ({"a": "x\ud800y", "\udc00": 1}, {"a": "x\ufffdy", "\ufffd": 1}),
    ({2: "a", 2.5: "b", None: "c", True: "d"}, {"2": "a", "2.5": "b", "null": "c", "true": "d"}),
    ({1: "int", "1": "str"}, {"1": "str", "1 (int)": "int"}),
    ({(1, 2): "a", datetime.date(2025, 7, 15): "b", Colour.RED: "c"}, {"(1, 2)": "a", "2025-07-15": "b", "red": "c"}),
    ({"US": 1, "us": 2, "k": 3, "\u212a": 4}, {"US": 1, "us": 2, "k": 3, "\u212a": 4}),
]


@pytest.mark.parametrize(("decode", "encode"), CODECS)
@pytest.mark.parametrize(("value", "plain"), OBJECTS, ids=lambda value: type(value).__name__)
def test_objects_are_sent_as_what_they_stand_for(value: Any, plain: Any, decode: Decode, encode: Encode) -> None:
    assert decode(encode(value), any_case=True) == plain


def test_a_request_has_no_keys_that_differ_by_case_only() -> None:
    """What comes from outside is read by programs that do not tell them apart."""
    for decode in (wire.decode, wire.pure_decode):
        with pytest.raises(DecodeError, match="key_case"):
            decode(wire.encode({"US": 1, "us": 2}))


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


REFUSED = [
    ({"a": [1, {"b": object()}]}, "a[1].b", "an object of type object"),
    (nested(65), "[0]" * 64, "too deep"),
    ({"t": int}, "t", "an object of type type"),
]


@pytest.mark.parametrize(("decode", "encode"), CODECS)
@pytest.mark.parametrize(("value", "path", "problem"), REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_be_sent_is_refused_with_its_place(value: Any, path: str, problem: str, decode: Decode, encode: Encode) -> None:
    with pytest.raises(EncodeError) as caught:
        encode(value)
    assert caught.value.path == path
    assert problem in str(caught.value)


@pytest.mark.parametrize(("decode", "encode"), CODECS)
def test_limits_hold_in_both_directions(decode: Decode, encode: Encode) -> None:
    assert decode(encode(nested(64))) == nested(64)
    with pytest.raises(EncodeError, match="too many"):
        encode([0] * 10, nodes=10)
    assert decode(encode([0] * 9, nodes=10), nodes=10) == [0] * 9
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    with pytest.raises(EncodeError, match="too deep"):
        encode(cyclic)


@pytest.mark.parametrize(("decode", "encode"), CODECS)
def test_a_nan_with_any_bits_is_a_nan(decode: Decode, encode: Encode) -> None:
    odd = b"\xcb" + struct.pack(">Q", 0x7FF0_0000_0000_0001)
    assert math.isnan(decode(odd))
    assert math.isnan(decode(encode(math.nan)))
    assert encode([decode(odd), math.inf - math.inf]) == encode([math.nan, math.nan])


ANSWERED = [{"a": [1, "x"]}, None, math.nan, nested(62), nested(63), [0] * 2000, {"a": 1, "A": 2}, datetime.date(2026, 1, 2)]


@pytest.mark.parametrize("value", ANSWERED, ids=range(len(ANSWERED)))
def test_an_answer_is_encoded_as_any_value(value: Any) -> None:
    rest = [{"run_ms": 0.5, "engine": "stub"}, None, 7]
    assert wire.encode_answer(value, rest) == wire.encode([value, *rest]) == wire.pure_encode([value, *rest])


def test_an_answer_that_has_no_spelling_names_the_place() -> None:
    with pytest.raises(EncodeError) as caught:
        wire.encode_answer({"a": [object()]}, [None])
    assert caught.value.path == "[0].a[0]"
    with pytest.raises(EncodeError, match="too deep"):
        wire.encode_answer(nested(64), [None])


CALLS = [
    {"a": 1},
    {},
    {"a": 1, "A": 2},
    {"a": {"b": 1, "B": 2}},
    {"a": math.nan},
    {1: 2},
    {"a": nested(61)},
    {"a": nested(62)},
    {"a": nested(63)},
    {"a": [0] * 2000},
]


@pytest.mark.parametrize("as_options", [False, True])
@pytest.mark.parametrize("args", CALLS, ids=range(len(CALLS)))
def test_a_call_is_read_as_any_body(args: Any, as_options: bool) -> None:
    given = ({}, args) if as_options else (args, {})
    raw = msgspec.msgpack.encode(["echo", given[0], "s", "j", 1, 30_000, given[1], None, 0, None])
    try:
        expected = bodies.read(FrameType.CALL, raw)
    except ValueError as error:
        with pytest.raises(type(error), match=re.escape(str(error))):
            bodies.read_call(raw)
    else:
        assert repr(bodies.read_call(raw)) == repr(expected)
