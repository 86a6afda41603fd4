"""Objects of user code that do what no object should when somebody looks at them."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Any

from dspex_worker import WorkerError, command, current_job


class Raises(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        return self.missing  # type: ignore[attr-defined, no-any-return]


class Nothing(Exception):
    """Its text is None."""

    def __str__(self) -> str:
        return None  # type: ignore[return-value]


class Exits(Exception):
    """Who asks for its text ends the process."""

    def __str__(self) -> str:
        raise SystemExit(7)


class Number(Exception):
    """Its text is a number."""

    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class Retry(Exception):
    """Whether it may be tried again cannot be had."""

    @property
    def retryable(self) -> bool:
        raise KeyError("retryable")


class Cause(Exception):
    """Its cause is no exception."""

    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise SystemExit(8)


class Huge(Exception):
    """Its text has 8 MB."""

    def __str__(self) -> str:
        return "x" * (8 << 20)


ERRORS = {kind.__name__: kind for kind in (Raises, Nothing, Exits, Number, Retry, Cause, Huge)}


@command
def raises(kind: str) -> None:
    """Raises one of them."""
    raise ERRORS[kind]


@command
async def raises_in_group(kind: str) -> None:
    """Raises one of them in a task of a group."""

    async def bad() -> None:
        raise ERRORS[kind]

    async with asyncio.TaskGroup() as group:
        group.create_task(bad())


@command
def spoilt() -> None:
    """A WorkerError that was changed after it was made."""
    error = WorkerError("python", "mine", "text")
    error.message = OSError("no text")
    error.hint = 5
    error.code = "two\nlines"
    error.retryable = "yes"
    raise error


class Result:
    """A result whose conversion ends the process, if it may."""

    def model_dump(self, mode: str) -> Any:
        raise SystemExit(9)


@command
def returns() -> Any:
    """Its result cannot be looked at."""
    return Result()


class Argument:
    """No log record can be made of it."""

    def __str__(self) -> str:
        raise SystemExit(10)


@command
def logs_it() -> str:
    """Logs what has no text."""
    logging.getLogger("mine").warning("about %s", Argument())
    return "gone on"


@command
async def unclosable() -> None:
    """Catches what closes it."""
    try:
        await asyncio.sleep(600)
    finally:
        for _ in range(3):
            try:
                await asyncio.sleep(600)
            except BaseException:
                continue


@command
def emits(what: str) -> Any:
    """Sends partial output of one kind; the error is the result."""
    job = current_job()
    values: dict[str, tuple[Any, Any]] = {
        "int": (5, None), "none": (None, None), "field": ("x", 3), "surrogate": ("\ud800", None), "huge": ("ä" * (3 << 20), "text"),
        "name": ("x", "a b"),
    }  # fmt: skip
    try:
        job.emit(*values[what])
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "sent"


@command
async def blocks(seconds: float) -> str:
    """Holds the loop."""
    time.sleep(seconds)
    return "done"


@command
def forks(code: int) -> str:
    """Forks; the child leaves in a way that no worker must leave."""
    child = os.fork()
    if child == 0:
        raise SystemExit(code)
    return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
