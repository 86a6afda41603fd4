"""Random generators that are made when the module is imported."""

from __future__ import annotations

import random
import uuid
from typing import Any

from dspex_worker import after_fork, command

copied = random.Random()
own = random.Random()


@after_fork
def reseed() -> None:
    """Gives each worker its own."""
    own.seed()


@command
def draw() -> dict[str, Any]:
    """One number of each."""
    return {"copied": copied.random(), "own": own.random(), "global": random.random(), "uuid": str(uuid.uuid4())}
