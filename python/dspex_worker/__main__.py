"""Starts the worker: pipes and process first, then the runtime."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from dspex_worker.start import Preloaded

__all__ = ["main"]


def main() -> NoReturn:
    """Runs the worker to its end and exits: 0 after BYE, 3 when the start failed, 4 on a protocol error."""
    from dspex_worker.system import process

    # The host gets the stacks of a worker that hangs by a signal; without a handler the signal would kill it.
    faulthandler.register(signal.SIGUSR2, file=sys.stderr, all_threads=True, chain=False)
    # Ctrl-C on the host's terminal is the host's business. A handler, because programs that jobs start would inherit that it is ignored.
    signal.signal(signal.SIGINT, process.unmoved)
    preloaded = None
    if os.environ.pop("DSPEX_ZYGOTE", ""):
        from dspex_worker import zygote

        preloaded = zygote.serve()  # goes on in each worker that it forks
    else:
        from dspex_worker.system import remains

        remains.keep()
    try:
        process.seal()
    except OSError:
        sys.exit("dspex_worker is started by a worker-host, which gives it its pipes as descriptors 3 and 4")
    process.own_group()
    process.limit()
    sys.exit(_serve(preloaded))


def _serve(preloaded: Preloaded | None) -> int:
    from dspex_worker import start
    from dspex_worker.protocol import bodies, frames, wire
    from dspex_worker.system import process, sandbox

    start.send_all(start.hello())
    try:
        if preloaded is None:
            sandbox.enter(alone=True)  # while there is one thread: what others did would stay free
        else:
            sandbox.enter_alone()
        process.watch_host()
        begun = start.start(*start.read_init(), preloaded)
    except (frames.ProtocolError, wire.DecodeError, bodies.BodyError) as error:
        print(f"dspex worker: protocol error: {error}", file=sys.stderr, flush=True)
        return 4
    except Exception as error:
        text, status = start.failed(error)
        start.send_all(text)
        return status
    from dspex_worker.runtime import Runtime

    Runtime(begun).serve()
    return 0


if __name__ == "__main__":
    main()
