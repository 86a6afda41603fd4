"""A module that opens files at its import and keeps them, as one with a data file, a database or a lock does."""

from __future__ import annotations

import os
import tempfile

from dspex_worker import command

_kept = [tempfile.TemporaryFile() for _ in range(3)]  # noqa: SIM115 - kept on purpose
for _number, _file in enumerate(_kept):
    _file.write(b"data %d" % _number)
    _file.flush()


@command
def read_kept() -> dict[str, object]:
    """What the files hold now, and their descriptors."""
    return {"data": [os.pread(file.fileno(), 100, 0).decode() for file in _kept], "descriptors": [file.fileno() for file in _kept]}
