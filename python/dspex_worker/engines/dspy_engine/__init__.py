"""The engine that runs programs with DSPy. The only package that imports DSPy; it is imported only when a worker needs it.

DSPy's process-wide state (settings, caches, histories) is switched off at the start; what a call needs (language model,
adapter, usage counter) lives in a context of that call alone.
"""

from __future__ import annotations

from dspex_worker.errors import WorkerError

try:
    from dspex_worker.engines.dspy_engine.engine import DSPyEngine
except ImportError as error:
    raise WorkerError(
        "initialization",
        "engine_missing",
        f"the engine dspy cannot be imported: {error}",
        hint="install the lock python/requirements/worker.txt into the worker's Python",
        python_type=type(error).__name__,
    ) from error

__all__ = ["DSPyEngine"]
