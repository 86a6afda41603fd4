"""Frames on the pipes (contract/frame.md): the header, the types, and a reader that takes bytes as they come.

Bodies are opaque here.
"""

from __future__ import annotations

import struct
from enum import IntEnum

__all__ = ["DEFAULT_MAX", "HARD_MAX", "HEADER_SIZE", "FrameReader", "FrameType", "ProtocolError", "frame"]

MAGIC = b"DX"
HEADER_SIZE = 16
DEFAULT_MAX = 16 << 20
HARD_MAX = 64 << 20

# magic, type, flags, length of the body, id
_HEADER = struct.Struct("<2sBBIQ")


class FrameType(IntEnum):
    """Types below 64 travel from the host to the worker, the others back."""

    INIT = 1
    CALL = 2
    CANCEL = 3
    PING = 5
    DROP = 8
    SHUTDOWN = 9
    LM = 11
    FORK = 12  # to a zygote only, as REAP
    REAP = 13
    PROGRAM = 14
    HELLO = 64
    READY = 65
    RESULT = 66
    ERROR = 67
    CHUNK = 68
    PONG = 69
    LOG = 70
    BYE = 72
    FORKED = 73
    EXITED = 74


FROM_HOST = frozenset(int(kind) for kind in FrameType if kind < 64)
FROM_WORKER = frozenset(int(kind) for kind in FrameType if kind >= 64)


class ProtocolError(Exception):
    """Bytes that are no frame. There is no way back into the stream: the worker ends."""


def frame(kind: int, call: int, body: bytes) -> bytes:
    """One frame, header and body."""
    return _HEADER.pack(MAGIC, kind, 0, len(body), call) + body


class FrameReader:
    """Cuts a stream into frames. It keeps at most one unfinished frame, joined once when it is whole."""

    def __init__(self, kinds: frozenset[int] = FROM_HOST, max_body: int = DEFAULT_MAX) -> None:
        self.max_body = max_body
        self._kinds = kinds
        self._parts: list[bytes] = []
        self._have = 0
        self._need = HEADER_SIZE

    @property
    def missing(self) -> int:
        """Bytes that the unfinished frame still lacks; a header's worth between frames."""
        return self._need - self._have

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """The frames (type, id, body) that are whole with these bytes; raises ProtocolError on anything else."""
        self._have += len(data)
        if self._parts or self._have < self._need:
            self._parts.append(data)
            if self._have < self._need:
                return []
            data = b"".join(self._parts)
            self._parts = []
        found = []
        at, end, need = 0, len(data), HEADER_SIZE
        while end - at >= HEADER_SIZE:
            magic, kind, flags, length, call = _HEADER.unpack_from(data, at)
            if magic != MAGIC or flags or kind not in self._kinds or length > self.max_body:
                raise ProtocolError(self._complaint(magic, kind, flags, length))
            need = HEADER_SIZE + length
            if end - at < need:
                break
            found.append((kind, call, data[at + HEADER_SIZE : at + need]))
            at += need
            need = HEADER_SIZE
        self._have = end - at
        self._need = need
        if self._have:
            self._parts = [data[at:]]
        return found

    def _complaint(self, magic: bytes, kind: int, flags: int, length: int) -> str:
        if magic != MAGIC:
            return f"the magic of a frame must be {MAGIC!r}, got {magic!r}"
        if flags:
            return f"the flags of a frame must be 0, got {flags:#x}"
        if kind not in self._kinds:
            return f"frame type {kind} is unknown in this direction"
        return f"frame body of {length} bytes, at most {self.max_body} are allowed"
