"""What is known of the call that runs: noted where it happens, read where a failure is reported.

A Trace is also the job's handle in DSPy: it holds the settings that the job's code finds (settings.py), and from its end on
no language model can be reached under it (seam.py). Threads that the job starts have the same one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from dspex_worker.guard import causes, inner_errors
from dspex_worker.system.inherit import inherited

__all__ = ["Trace", "trace_var"]

FAILURES = 256  # failed calls of models that are kept; a job that goes on after more has other worries


@dataclass(eq=False)
class Trace:
    """Notes of one call, from all of its threads."""

    finish: str | None = None  # why the language model stopped, by its last answer
    chunks: int = 0  # partial outputs that went out
    settings: dict[str, Any] | None = None  # what dspy.settings holds where no dspy.context changes it; None: the process's
    owner: int | None = None  # the thread that may dspy.configure: the first that does
    ended: bool = False
    of_profile: Any = None  # reports whether an LM is the profile's
    called_profile: bool = False  # the profile's model was called
    usage: dict[str, dict[str, Any]] = field(default_factory=dict)  # counts by model, of every call that a model was paid for
    failed: list[tuple[BaseException, Any]] = field(default_factory=list)  # errors of model calls, each with its LM
    lock: threading.Lock = field(default_factory=threading.Lock)
    waits: dict[Any, Callable[[], None]] = field(default_factory=dict)  # connections to models in use, and what ends the wait

    def note_failure(self, error: BaseException, lm: Any) -> None:
        """Stores whose call ended so."""
        if len(self.failed) < FAILURES:
            self.failed.append((error, lm))

    def lm_of(self, error: BaseException) -> Any:
        """The LM whose call the error comes from, else None."""
        for leaf in inner_errors(error):
            for cause in causes(leaf):
                for noted, lm in self.failed:
                    if noted is cause:
                        return lm
        return None

    def is_over(self) -> bool:
        """Whether the job has ended, which may happen at any time."""
        return self.ended

    def wait_on(self, conn: Any, cut: Callable[[], None]) -> None:
        """A request goes out on the connection. cut: ends it; called at once if the job is over."""
        with self.lock:
            if self.ended:
                cut()
            else:
                self.waits[conn] = cut

    def waited_on(self, conn: Any) -> None:
        """The request is over."""
        with self.lock:
            self.waits.pop(conn, None)

    def end(self) -> None:
        """The job is over. What still runs of it may go on, but reaches no model, and waits for none."""
        with self.lock:
            self.ended = True
            for cut in self.waits.values():
                cut()
            self.waits.clear()


trace_var: ContextVar[Trace | None] = ContextVar("dspex_dspy_trace", default=None)
inherited.append(trace_var)
