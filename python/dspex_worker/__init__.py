"""The worker of dspex: a process that a worker-host starts and exchanges frames with (contract/frame.md).

It runs DSPy programs and the operator's own functions. What those functions need of it is here; nothing in this package
needs more than the standard library to be imported.
"""

from __future__ import annotations

from dspex_worker.errors import WorkerError
from dspex_worker.registry import Job, after_fork, command, current_job, program

__version__ = "0.1.0"

__all__ = ["Job", "WorkerError", "__version__", "after_fork", "command", "current_job", "program"]
