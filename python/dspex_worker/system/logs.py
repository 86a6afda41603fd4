"""Log records of user code and libraries as LOG frames."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from dspex_worker.errors import bounded, frames_of
from dspex_worker.guard import class_name, text_of
from dspex_worker.protocol import wire
from dspex_worker.registry import job_var

__all__ = ["FrameHandler", "install"]

# Libraries that report every request at INFO.
_TALKATIVE = ("httpx", "httpcore", "openai", "LiteLLM", "asyncio")


class FrameHandler(logging.Handler):
    """Sends records as LOG frames. It keeps the message and the place of an error, and never the arguments of a call."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Sends one record; a record that cannot be formatted is reported on stderr by logging itself."""
        try:
            job = job_var.get(None)
            fields: dict[str, str] = {}
            if job is not None:
                fields["job"] = job.id
            error = record.exc_info[1] if record.exc_info else None
            if error is not None:
                fields["python_type"] = class_name(error)
                fields["traceback"] = frames_of(error)
            message = bounded(_message(record))
            call = job.call if job is not None else 0
            self._send(wire.encode([record.levelname.lower(), bounded(record.name, 256), message, call, fields]))
        except Exception:
            self.handleError(record)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except BaseException as error:  # of an argument's __str__; the arguments themselves may be prompts
        place = f"{os.path.basename(record.pathname)}:{record.lineno}"
        return f"(a record of {place} that cannot be formatted: {class_name(error)}): {text_of(record.msg)}"


def install(send: Callable[[bytes], None]) -> None:
    """Makes the frames the only way of log records: INFO and above, talkative libraries from WARNING."""
    root = logging.getLogger()
    root.handlers[:] = [FrameHandler(send)]
    root.setLevel(logging.INFO)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
