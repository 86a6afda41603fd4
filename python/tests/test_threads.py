"""Threads that can be interrupted."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Any

import pytest

from dspex_worker.errors import Cancelled
from dspex_worker.system import inherit
from dspex_worker.system.threads import Threads, Ticket

Ends = SimpleQueue[tuple[Any, BaseException | None]]


def test_functions_run_and_report() -> None:
    threads, ends = Threads(2), Ends()
    threads.start(lambda: 42, lambda *end: ends.put(end))
    assert ends.get(timeout=30) == (42, None)
    threads.start(lambda: 1 // 0, lambda *end: ends.put(end))
    value, error = ends.get(timeout=30)
    assert value is None
    assert isinstance(error, ZeroDivisionError)


def test_no_more_threads_than_allowed_and_none_without_need() -> None:
    threads, ends, gate = Threads(3), Ends(), threading.Event()
    for _ in range(5):
        threads.start(lambda: gate.wait(30) and threading.get_ident(), lambda *end: ends.put(end))
    gate.set()
    names = {ends.get(timeout=30)[0] for _ in range(5)}
    assert 1 <= len(names) <= 3


@pytest.mark.parametrize("round_", range(30))
def test_an_interrupt_at_any_moment_ends_the_function_and_spares_the_next(round_: int) -> None:
    """The interrupt races with the end of the function: either way one end is reported, and the thread serves on."""
    threads, ends, begun = Threads(1), Ends(), threading.Event()

    def work() -> str:
        begun.set()
        for _ in range(round_ * 50):
            pass
        return "finished"

    ticket = threads.start(work, lambda *end: ends.put(end))
    if round_ % 2:
        begun.wait(30)
    ticket.interrupt()
    ticket.interrupt()
    value, error = ends.get(timeout=30)
    assert (value, error) == ("finished", None) or isinstance(error, Cancelled)
    for _ in range(3):
        threads.start(lambda: sum(range(1000)), lambda *end: ends.put(end))
        assert ends.get(timeout=30) == (499_500, None)
    assert ends.empty()


def test_an_interrupt_that_has_not_risen_at_the_end_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, type[BaseException] | None]] = []
    monkeypatch.setattr("dspex_worker.system.threads._raise_in", lambda thread, error: asked.append((thread, error)))
    ends = Ends()

    def work() -> int:
        ticket.interrupt()
        return 42

    ticket = Ticket(work, lambda *end: ends.put(end))
    ticket.run()
    assert ends.get(timeout=30) == (42, None)
    assert asked == [(threading.get_ident(), Cancelled), (threading.get_ident(), None)]


def test_an_interrupted_loop_ends() -> None:
    threads, ends, begun = Threads(1), Ends(), threading.Event()

    def forever() -> None:
        while True:
            begun.set()

    ticket = threads.start(forever, lambda *end: ends.put(end))
    begun.wait(30)
    ticket.interrupt()
    assert isinstance(ends.get(timeout=30)[1], Cancelled)


def test_a_waiting_function_never_begins_once_interrupted() -> None:
    threads, ends, gate = Threads(1), Ends(), threading.Event()
    ran = threading.Event()
    threads.start(lambda: gate.wait(30), lambda *end: ends.put(end))
    ticket = threads.start(ran.set, lambda *end: ends.put(end))
    ticket.interrupt()
    gate.set()
    assert ends.get(timeout=30) == (True, None)
    assert isinstance(ends.get(timeout=30)[1], Cancelled)
    assert not ran.is_set()


@pytest.mark.parametrize("round_", range(40))
def test_an_interrupt_never_rises_in_a_thread_that_the_function_starts(round_: int) -> None:
    """It would end there before its first line, and the function would wait for it for ever."""
    inherit.install()
    threads, ends, begun = Threads(1), Ends(), threading.Event()

    def starts_threads() -> None:
        begun.set()
        while True:
            threading.Thread(target=int).start()

    ticket = threads.start(starts_threads, lambda *end: ends.put(end))
    assert begun.wait(30)
    ticket.interrupt()
    assert isinstance(ends.get(timeout=30)[1], Cancelled)
