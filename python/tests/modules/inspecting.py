"""A command that looks at its own process."""

from __future__ import annotations

import gc
import os
import random
import stat
import threading
from typing import Any

from dspex_worker import command


@command
async def inside() -> dict[str, Any]:
    """What a fork could have carried over from its parent."""
    sockets = []
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode) and os.readlink(f"/proc/self/fd/{fd}"):
                sockets.append(fd)
        except OSError:
            continue
    # The event loop has a pair of sockets to wake itself.
    return {
        "random": random.random(),
        "gc": gc.isenabled(),
        "frozen": gc.get_freeze_count(),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "sockets": sockets[2:],
        "environment": sorted(name for name in os.environ if name.startswith("DSPEX_")),
    }
