"""An operator's module that starts a thread when it is imported."""

from __future__ import annotations

import threading

_forever = threading.Event()
threading.Thread(target=_forever.wait, name="poller", daemon=True).start()
