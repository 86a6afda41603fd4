"""The state of a session, and the states that this worker holds.

A State never changes: a call that changes something makes a new one, and it counts only when the call's RESULT is
written. So a call that fails leaves the old state, whatever it had done before.
"""

from __future__ import annotations

import datetime
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

from dspex_worker.errors import WorkerError
from dspex_worker.protocol import wire

__all__ = ["EMPTY", "SCHEMA", "Sessions", "State", "now_text"]

SCHEMA = 1  # key `v` of the state map; a newer one is left alone
# States of the sessions last used that a worker holds, contract/frame.md: this many, and this many bytes as they are stored.
KEPT, KEPT_BYTES = 1024, 8 << 20


def now_text() -> str:
    """The time as text: RFC 3339, UTC, milliseconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class State:
    """Everything that a session keeps."""

    # id -> {"signature": map, "program_type": str, "created_at": str, "execution_count": int, "last_executed": str | None}
    programs: dict[str, dict[str, Any]] = field(default_factory=dict)
    lm: dict[str, Any] | None = None  # {"model", and what was given of "provider", "temperature", "max_tokens"}
    history: list[dict[str, Any]] = field(default_factory=list)  # turns {"inputs", "outputs"}, oldest first
    data: dict[str, Any] = field(default_factory=dict)  # what update_session_data wrote
    created_at: str | None = None  # None until the first change is stored

    def with_program(self, program_id: str, entry: dict[str, Any] | None) -> State:
        """The state with the program set, or with None without it."""
        programs = {key: value for key, value in self.programs.items() if key != program_id}
        if entry is not None:
            programs[program_id] = entry
        return replace(self, programs=programs)

    def with_turn(self, inputs: dict[str, Any], outputs: dict[str, Any], turns: int, size: int) -> State:
        """The state with one more turn of conversation; the oldest ones go when there are too many or too many bytes."""
        raw = wire.encode({"inputs": inputs, "outputs": outputs})
        # What was decoded is nobody else's: code that goes on changing its inputs does not change the past.
        kept = [*self.history, wire.decode(raw, any_case=True)][-turns:] if turns > 0 else []
        left = size - len(raw)
        if left < 0:
            return replace(self, history=[])
        for index in range(len(kept) - 2, -1, -1):
            left -= len(wire.encode(kept[index]))
            if left < 0:
                kept = kept[index + 1 :]
                break
        return replace(self, history=kept)

    def to_bytes(self, version: int) -> bytes:
        """The form in which the host keeps it."""
        return wire.encode(
            {
                "v": SCHEMA,
                "version": version,
                "programs": self.programs,
                "lm": self.lm,
                "history": self.history,
                "data": self.data,
                "created_at": self.created_at,
            }
        )


EMPTY = State()


_SHAPE: dict[str, tuple[type, ...]] = {
    "programs": (dict,),
    "lm": (dict, type(None)),
    "history": (list,),
    "data": (dict,),
    "created_at": (str, type(None)),
}


def read_state(raw: bytes) -> State:
    """The state from the host's bytes; a `session` error when it is unreadable or of a newer schema."""
    try:
        found = wire.decode(raw, any_case=True)
    except wire.DecodeError as error:
        raise _unreadable(str(error)) from None
    if not isinstance(found, dict) or not isinstance(found.get("v"), int):
        raise _unreadable("it is no map with the key v")
    if found["v"] > SCHEMA:
        raise WorkerError(
            "session",
            "record_newer",
            f"the schema version of the session's state must be at most {SCHEMA}, got {found['v']}",
            hint="run the job on a host of the newer release",
        )
    for key, kinds in _SHAPE.items():
        if not isinstance(found.get(key), kinds):
            raise _unreadable(f"its key {key} is of the wrong type")
    return State(**{key: found[key] for key in _SHAPE})


def _unreadable(why: str) -> WorkerError:
    return WorkerError(
        "session",
        "record_unreadable",
        f"the session's state cannot be read: {why}",
        hint="clean the session up (cleanup_session) to start over",
    )


class Sessions:
    """The states last used, by session, each with its version. The host's record is the durable copy."""

    def __init__(self, limit: int = KEPT, limit_bytes: int = KEPT_BYTES) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._held: OrderedDict[str, tuple[int, State, int]] = OrderedDict()  # version, state, bytes

    def __len__(self) -> int:
        return len(self._held)

    def load(self, session: str, version: int, raw: bytes | None) -> State:
        """The state that a call starts with; `state_missing` makes the host send it."""
        if raw is not None:
            state = read_state(raw)
            self.keep(session, version, state, len(raw))
            return state
        if version == 0:
            self.drop(session)
            return EMPTY
        held = self._held.get(session)
        if held is None or held[0] != version:
            raise WorkerError(
                "session",
                "state_missing",
                f"this worker does not hold version {version} of the session's state",
                retryable=True,
            )
        self._held.move_to_end(session)
        return held[1]

    def keep(self, session: str, version: int, state: State, size: int) -> None:
        """Keeps the state of size bytes; those used longest ago are dropped when there is too much."""
        self.drop(session)
        self._held[session] = (version, state, size)
        self._bytes += size
        while len(self._held) > self._limit or (self._bytes > self._limit_bytes and len(self._held) > 1):
            self.drop(next(iter(self._held)))

    def drop(self, session: str) -> None:
        """Drops what is held of the session."""
        held = self._held.pop(session, None)
        if held is not None:
            self._bytes -= held[2]

    def clear(self) -> int:
        """Drops all; returns how many there were."""
        count = len(self._held)
        self._held.clear()
        self._bytes = 0
        return count
