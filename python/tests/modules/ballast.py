"""An operator's module that takes much memory when it is imported."""

from __future__ import annotations

BALLAST = bytearray(b"\x01") * (150 << 20)
