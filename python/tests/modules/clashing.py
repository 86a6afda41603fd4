"""A module whose names clash with those of the worker."""

from __future__ import annotations

from dspex_worker import command


@command("predict")
def my_predict() -> None:
    pass


@command("twice")
def first() -> None:
    pass


@command("twice")
def second() -> None:
    pass
