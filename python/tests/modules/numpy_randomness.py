"""numpy's random generators, made when the module is imported."""

from __future__ import annotations

from typing import Any

import numpy as np

from dspex_worker import after_fork, command

copied = np.random.default_rng()
old = np.random.RandomState()
rng = np.random.default_rng()


@after_fork
def reseed() -> None:
    """As docs/your-modules.md shows it: each worker makes a generator of its own."""
    global rng
    rng = np.random.default_rng()


@command
def draw() -> dict[str, Any]:
    """One number of each."""
    return {"copied": copied.random(), "old": old.random_sample(), "own": rng.random(), "global": np.random.random_sample()}
