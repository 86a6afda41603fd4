"""What is known of the call that runs: noted where it happens, read where a failure is told."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["Trace", "trace_var"]


@dataclass
class Trace:
    """Notes of one call."""

    finish: str | None = None  # why the language model stopped, as its last answer said
    chunks: int = 0  # partial outputs that went out


trace_var: ContextVar[Trace | None] = ContextVar("dspex_dspy_trace", default=None)
