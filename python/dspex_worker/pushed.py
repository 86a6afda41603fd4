"""Whole programs that an operator gave to all hosts, as a worker keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dspex_worker.learnt import counts
from dspex_worker.state import now_text

__all__ = ["Pushed"]


@dataclass
class Pushed:
    """A whole program, with a signature of its own."""

    entry: dict[str, Any]  # as a session has them
    version: int
    execution_count: int = 0
    last_executed: str | None = None

    def ran(self) -> None:
        """Counts a run."""
        self.execution_count += 1
        self.last_executed = now_text()

    def summary(self) -> dict[str, Any]:
        """What get_program_info returns of what it has learnt."""
        return {**counts(self.entry.get("learnt") or {}), "version": self.version}
