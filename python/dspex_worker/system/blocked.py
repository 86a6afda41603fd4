"""Reports code that blocks the event loop: while it does, no other job of the worker goes on.

A thread checks the loop for a sign of life while calls run. Without one, the main thread's stack shows what runs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable
from types import FrameType

__all__ = ["BLOCKED_AFTER", "BlockWatch"]

BLOCKED_AFTER = 0.25  # seconds
PLACES = 256  # that are reported, once each
_PAUSE = 0.25  # seconds between two questions

_log = logging.getLogger("dspex.worker")
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STANDARD = os.path.dirname(os.path.abspath(os.__file__)) + os.sep


class BlockWatch:
    """Watches one loop, from its own thread. running: the program or command that the loop's task belongs to."""

    def __init__(self, loop: asyncio.AbstractEventLoop, running: Callable[[], str]) -> None:
        self._loop = loop
        self._running = running
        self._main = threading.get_ident()
        self._busy = threading.Event()
        self._alive = threading.Event()
        self._told: set[tuple[str, int]] = set()

    def start(self) -> None:
        """Starts the thread. It dies with the process."""
        threading.Thread(target=self._watch, name="dspex-block-watch", daemon=True).start()

    def busy(self, calls: int) -> None:
        """Sets how many calls run: without any, nothing is checked."""
        if calls:
            self._busy.set()
        else:
            self._busy.clear()

    def _watch(self) -> None:
        pause = threading.Event()
        while True:
            self._busy.wait()
            pause.wait(_PAUSE)
            self._alive.clear()
            try:
                self._loop.call_soon_threadsafe(self._alive.set)
            except RuntimeError:  # the loop is closed
                return
            if not self._alive.wait(BLOCKED_AFTER):
                frame = sys._current_frames().get(self._main)
                if frame is not None and not self._alive.is_set():
                    self._tell(frame)
                self._alive.wait()

    def _tell(self, frame: FrameType) -> None:
        place = _place(frame)
        if place is None or place in self._told or len(self._told) >= PLACES:
            return
        self._told.add(place)
        name, line = place
        _log.warning(
            "%s:%d in %s holds the event loop for more than %d ms: all jobs of the worker wait; use await, or call it by asyncio.to_thread",
            os.path.basename(name), line, self._running(), int(BLOCKED_AFTER * 1000),
        )  # fmt: skip


def _place(frame: FrameType | None) -> tuple[str, int] | None:
    """File and line of the innermost frame that is neither ours nor Python's: what an installed package does is its caller's doing."""
    installed = None
    while frame is not None:
        name = os.path.abspath(frame.f_code.co_filename)
        if "site-packages" in name or "dist-packages" in name:
            installed = installed or (name, frame.f_lineno)
        elif not name.startswith((_PACKAGE, _STANDARD)) and not name.endswith("<string>") and "<frozen" not in name:
            return name, frame.f_lineno
        frame = frame.f_back
    return installed
