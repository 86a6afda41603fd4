"""Programs that remember something in self."""

from __future__ import annotations

from dspex_worker import program


class Counts:
    """Counts its runs."""

    def __init__(self) -> None:
        self.runs = 0

    def forward(self) -> int:
        self.runs += 1
        return self.runs


program("shared_count")(Counts)
program("own_count", per_session=True)(Counts)
