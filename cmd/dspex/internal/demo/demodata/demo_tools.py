"""What `dspex demo` adds to its workers: a command that reports which worker serves a session, so that the demo can kill it."""

from __future__ import annotations

import os

from dspex_worker import command, current_job


@command
def whoami() -> dict[str, object]:
    """The process that runs this job."""
    return {"pid": os.getpid(), "worker": current_job().worker}
