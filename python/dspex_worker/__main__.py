"""Starts the worker: pipes and process first, then the runtime."""

from __future__ import annotations

import faulthandler
import signal
import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Runs the worker to its end and exits: 0 after BYE, 3 when the start failed, 4 on a protocol error."""
    from dspex_worker import process

    try:
        process.seal()
    except OSError:
        sys.exit("dspex_worker is started by a worker-host, which gives it its pipes as descriptors 3 and 4")
    process.own_group()
    process.limit()
    # The host asks a worker that hangs where it stands; without a handler the signal would kill it.
    faulthandler.register(signal.SIGUSR2, file=sys.stderr, all_threads=True, chain=False)
    # Ctrl-C on the host's terminal is the host's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.watch_host()
    sys.exit(_serve())


def _serve() -> int:
    from dspex_worker import bodies, frames, start, wire

    start.say_hello()
    try:
        begun = start.start(*start.read_init())
    except (frames.ProtocolError, wire.DecodeError, bodies.BodyError) as error:
        print(f"dspex worker: protocol error: {error}", file=sys.stderr, flush=True)
        return 4
    except Exception as error:
        return start.start_failed(error)
    from dspex_worker.runtime import Runtime

    Runtime(begun).serve()
    return 0


if __name__ == "__main__":
    main()
