"""DSPy's settings, one set for each job.

In a script `dspy.configure` sets the process's settings, which all threads see, and `dspy.context` changes them for a block.
Here the settings of the process are those that the operator's modules configured when they were imported; each job begins with
a copy of them. What a job configures stays in its copy, and its threads see it as they see the process's in a script.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import ContextDecorator
from typing import Any

from dspy.dsp.utils.utils import dotdict

from dspex_worker.engines.dspy_engine.trace import trace_var

__all__ = ["install", "job_settings", "shared"]

module: Any = importlib.import_module("dspy.dsp.utils.settings")  # as an attribute, that name is the settings object itself

# Of one call each: what an import set of them would be every job's.
_OF_A_CALL = {"usage_tracker": None, "send_stream": None, "stream_listeners": (), "caller_predict": None, "caller_modules": None}

shared: dict[str, Any] = module.main_thread_config  # those of the process


class _Settings(Mapping[str, Any]):
    """Takes the place of the process's settings in DSPy: the job's where there is one."""

    def _now(self) -> dict[str, Any]:
        trace = trace_var.get()
        return shared if trace is None or trace.settings is None else trace.settings

    def __getitem__(self, name: str) -> Any:
        return self._now()[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._now()[name] = value

    def __contains__(self, name: object) -> bool:
        return name in self._now()

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def now(self) -> dict[str, Any]:
        """The plain dict, which is merged faster."""
        return self._now()


_settings = _Settings()


def job_settings(user_code: bool, **values: Any) -> dict[str, Any]:
    """The settings that a job begins with. user_code: code of the operator runs in it, which may look at the trace."""
    found = {**shared, **_OF_A_CALL, **values}
    found["stream_listeners"] = list(found["stream_listeners"])
    found["callbacks"] = list(found["callbacks"] or [])
    # DSPy keeps what predictors did in this list; Refine, BestOfN and most optimisers read it.
    found["track_usage"] = user_code and found["track_usage"]  # a program of ours looks at no counts; a job's are counted elsewhere
    found["trace"] = [] if user_code and found["trace"] is not None else None
    return found


class _Context(ContextDecorator):
    """`dspy.context`, as DSPy has it, but for the settings that it begins with. No generator: it is entered often."""

    __slots__ = ("_token", "_values")

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def _recreate_cm(self) -> _Context:
        return _Context(self._values)  # each call of a function that it decorates has its own

    def __enter__(self) -> None:
        overrides = module.thread_local_overrides
        self._token = overrides.set(dotdict({**_settings.now(), **overrides.get(), **self._values}))

    def __exit__(self, *_: object) -> None:
        module.thread_local_overrides.reset(self._token)


def _context(self: Any, **values: Any) -> _Context:
    return _Context(values)


def _may_configure(self: Any) -> None:
    """Who may `dspy.configure`: while modules are imported, whom DSPy allows; in a job, the first thread of it that does."""
    trace = trace_var.get()
    if trace is None or trace.settings is None:
        _process_may(self)
        return
    here = threading.get_ident()
    if trace.owner is None:
        trace.owner = here
    if trace.owner != here:
        raise RuntimeError("dspy.settings can only be changed by the thread that initially configured it.")


_process_may = module.Settings._ensure_configure_allowed


def install() -> None:
    """Puts the jobs' settings into DSPy. Reloading of DSPy's module would undo it; nobody does."""
    module.main_thread_config = _settings
    module.Settings.context = _context
    module.Settings._ensure_configure_allowed = _may_configure
