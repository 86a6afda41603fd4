"""The objects of imported programs that sessions have of their own."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from dspex_worker.registry import UserProgram

__all__ = ["Instances"]

KEPT = 1024  # objects that sessions have of their own in a worker: as many as sessions whose states it keeps


class Instances:
    """The objects of programs that are made for each session; those used longest ago are dropped."""

    def __init__(self, limit: int = KEPT) -> None:
        self._limit = limit
        self._held: OrderedDict[tuple[str, str], Any] = OrderedDict()

    def of(self, program: UserProgram, session: str | None, learn: Any = None) -> Any:
        """The session's own object; without a session a new one. learn: puts into it what the program has learnt."""
        if not program.per_session:
            return program.made if program.made is not None else program.module
        if session is None:
            return _new(program, learn)
        key = (session, program.id)
        found = self._held.get(key)
        if found is None:
            found = self._held[key] = _new(program, learn)
            if len(self._held) > self._limit:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return found

    def drop(self, session: str) -> None:
        """Drops the objects of a session."""
        for key in [key for key in self._held if key[0] == session]:
            del self._held[key]

    def forget(self, program_id: str) -> None:
        """Drops the objects of a program: the next job of each session has a new one."""
        for key in [key for key in self._held if key[1] == program_id]:
            del self._held[key]


def _new(program: UserProgram, learn: Any) -> Any:
    made = program.target()
    if program.state is not None:
        learn(made, program.state)
    return made
