"""The differential suite: programs that run in plain DSPy and in a worker, and must do the same in both."""

from __future__ import annotations

MODULES = tuple(
    f"tests.differential.programs.{name}"
    for name in (
        "adapters",
        "fields",
        "modules",
        "agents",
        "concurrency",
        "settings",
        "failures",
        "training",
        "more",
        "documented",
        "guides",
        "guides_running",
    )
)
