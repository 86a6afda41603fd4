"""Bodies of the frames from the host: positional arrays with the fields of contract/frame.md, checked before use."""

from __future__ import annotations

import itertools
from typing import Any

from dspex_worker.protocol import wire
from dspex_worker.protocol.frames import FrameType

__all__ = ["BodyError", "read", "read_call"]

_STR, _MAP, _UINT = (str,), (dict,), (int,)
_STR_NIL, _BIN_NIL, _MAP_NIL, _UINT_NIL = (str, type(None)), (bytes, type(None)), (dict, type(None)), (int, type(None))

# Fields in the order of the wire. A missing field is nil, so only those that may be nil can be left out.
_FIELDS: dict[int, tuple[tuple[str, tuple[type, ...]], ...]] = {
    FrameType.INIT: (("proto", _UINT), ("config", _MAP)),
    FrameType.CALL: (
        ("command", _STR),
        ("args", _MAP),
        ("session", _STR_NIL),
        ("job", _STR),
        ("attempt", _UINT),
        ("budget_ms", _UINT),
        ("options", _MAP),
        ("state", _BIN_NIL),
        ("state_version", _UINT),
        ("lm", _STR_NIL),
        ("trace", _UINT_NIL),
    ),
    FrameType.CANCEL: (("reason", _STR),),
    FrameType.PING: (("t_ns", _UINT),),
    FrameType.DROP: (("session", _STR),),
    FrameType.SHUTDOWN: (("grace_ms", _UINT),),
    FrameType.LM: (("key", _STR), ("profile", _MAP)),
    FrameType.FORK: (("nonce", _STR),),
    FrameType.REAP: (("pid", _UINT),),
    FrameType.PROGRAM: (("id", _STR), ("version", _UINT), ("record", _MAP_NIL)),
}
# Every combination of types that the fields allow: one look-up in place of a check for each field.
_SHAPES = {kind: frozenset(itertools.product(*(kinds for _, kinds in fields))) for kind, fields in _FIELDS.items()}
_NUMBERS = {kind: [at for at, (_, kinds) in enumerate(fields) if kinds is _UINT] for kind, fields in _FIELDS.items()}
_ATTEMPT_AT, _ATTEMPT_MAX = 4, 0xFFFFFFFF
_CALL_SHAPES = _SHAPES[FrameType.CALL]
_CALL_PLAIN = len(_FIELDS[FrameType.CALL]) - 1  # fields of a call that nobody traces


class BodyError(ValueError):
    """A body whose fields are not those of its frame."""


def read_call(raw: bytes) -> list[Any]:
    """The same as `read` for a CALL, for which it pays to find out quickly that all is well."""
    found: Any = wire.read_shortest(raw)
    if type(found) is list and len(found) == _CALL_PLAIN:
        found.append(None)
    if type(found) is list and tuple(map(type, found)) in _CALL_SHAPES:
        _, args, _, _, attempt, budget, options, _, version, _, trace = found
        # All but the two maps are scalars.
        fine = wire.plain(args, wire.NODES - 1000, wire.DEPTH - 1) and (not options or wire.plain(options, 900, wire.DEPTH - 1))
        if fine and 0 <= attempt <= _ATTEMPT_MAX and budget >= 0 and version >= 0 and (trace is None or trace >= 0):
            return found
    call: list[Any] = read(FrameType.CALL, raw)
    return call


def read(kind: int, raw: bytes) -> Any:
    """The fields of the body, as many as this frame has; DecodeError or BodyError on anything else."""
    found: Any = wire.decode(raw)
    if type(found) is not list:
        raise BodyError("the body is no array")
    fields = _FIELDS[kind]
    if len(found) != len(fields):
        found = (found + [None] * len(fields))[: len(fields)]
    if tuple(map(type, found)) not in _SHAPES[kind]:
        wrong = [name for value, (name, kinds) in zip(found, fields, strict=True) if type(value) not in kinds]
        raise BodyError(f"{', '.join(wrong)} must be there and of the right kind")
    for at in _NUMBERS[kind]:
        if found[at] < 0:
            raise BodyError(f"{fields[at][0]} must be 0 or more, got {found[at]}")
    if kind == FrameType.CALL and found[-1] is not None and found[-1] < 0:
        raise BodyError(f"trace must be 0 or more, got {found[-1]}")
    if kind == FrameType.CALL and found[_ATTEMPT_AT] > _ATTEMPT_MAX:
        raise BodyError(f"attempt must be at most {_ATTEMPT_MAX}, got {found[_ATTEMPT_AT]}")
    return found
