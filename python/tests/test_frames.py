"""Frames and the bodies from the host, against the shared vectors."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from dspex_worker.protocol import bodies, wire
from dspex_worker.protocol.frames import DEFAULT_MAX, FROM_HOST, FROM_WORKER, FrameReader, FrameType, ProtocolError, frame

VECTORS = json.loads((Path(__file__).parents[2] / "contract" / "vectors" / "frame.json").read_text("utf-8"))["frames"]
GOOD = [entry for entry in VECTORS if "refuse" not in entry]
REFUSED = [entry for entry in VECTORS if "refuse" in entry]
BOTH = FROM_HOST | FROM_WORKER


def unspell(value: Any) -> Any:
    """JSON has no bin: the vectors spell it {"$bin": hex}."""
    if isinstance(value, dict):
        return bytes.fromhex(value["$bin"]) if set(value) == {"$bin"} else {key: unspell(item) for key, item in value.items()}
    return [unspell(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("entry", GOOD, ids=lambda entry: entry["name"])
def test_good_frame(entry: dict[str, Any]) -> None:
    data, fields = bytes.fromhex(entry["hex"]), unspell(entry["fields"])
    assert FrameType(entry["type"]).name == entry["type_name"]
    ((kind, call, body),) = FrameReader(BOTH).feed(data)
    assert (kind, call) == (entry["type"], entry["id"])
    if kind in FROM_HOST:
        found = bodies.read(kind, body)
        assert found[: len(fields)] == fields
        assert not any(found[len(fields) :])  # fields that are left out
    if not entry.get("read_only"):
        assert frame(kind, call, wire.encode(fields)) == data


@pytest.mark.parametrize("entry", REFUSED, ids=lambda entry: entry["name"])
def test_refused_frame(entry: dict[str, Any]) -> None:
    data = bytes.fromhex(entry["hex"])
    reader = FrameReader(BOTH, entry.get("max", DEFAULT_MAX))
    if entry["refuse"] == "header":
        with pytest.raises(ProtocolError):
            reader.feed(data)
    elif entry["refuse"] == "eof":
        assert reader.feed(data) == []
        assert reader.missing > 0
    elif entry["type"] in FROM_HOST:
        ((kind, _, body),) = reader.feed(data)
        with pytest.raises(ValueError, match=r".") as caught:
            bodies.read(kind, body)
        assert isinstance(caught.value, (wire.DecodeError, bodies.BodyError))
    else:
        ((_, _, body),) = reader.feed(data)
        assert body  # from worker to host: the host reads and refuses it


def some_frames() -> list[tuple[int, int, bytes]]:
    return [(2, 1, b""), (2, 2, b"x" * 100), (5, 0, b"\x91\x00"), (2, 2**64 - 1, b"y" * 70_000), (9, 0, b"\x90")]


def test_frames_arrive_byte_by_byte() -> None:
    wanted = some_frames()
    reader = FrameReader()
    found = []
    for byte in b"".join(frame(*entry) for entry in wanted):
        found += reader.feed(bytes([byte]))
    assert found == wanted


@pytest.mark.parametrize("seed", range(50))
def test_frames_arrive_in_pieces_of_any_size(seed: int) -> None:
    rng = random.Random(seed)
    wanted = [entry for _ in range(4) for entry in some_frames()]
    data = b"".join(frame(*entry) for entry in wanted)
    reader = FrameReader()
    found = []
    while data:
        size = rng.choice([1, 15, 16, 17, 100, 5000, 100_000])
        found += reader.feed(data[:size])
        data = data[size:]
    assert found == wanted
    assert reader.missing == 16


def test_frames_of_the_other_direction_are_refused() -> None:
    with pytest.raises(ProtocolError, match="type 66 is unknown in this direction"):
        FrameReader().feed(frame(FrameType.RESULT, 1, b""))


def test_a_length_over_the_limit_is_refused_before_the_body_comes() -> None:
    header = frame(FrameType.CALL, 1, b"x" * 101)[:16]
    with pytest.raises(ProtocolError, match="101 bytes, at most 100"):
        FrameReader(max_body=100).feed(header)
