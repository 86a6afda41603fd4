"""Calls to language models from a worker that has no network and no keys (level strict of the sandbox).

The host calls the model for it. A connection to the host is one end of a pair of sockets; the other end goes to the host over the
channel that the worker was given at its start. The client, its pool and its timeouts are those of every other worker.
"""

from __future__ import annotations

import asyncio
import importlib
import socket
from typing import Any

from dspex_worker.system import process, sandbox

__all__ = ["install"]

# DSPy's own, which it does not export.
transports: Any = importlib.import_module("dspy._vendor.lm15.transports")
_asynchronous: Any = importlib.import_module("dspy._vendor.lm15.transports._async")
_synchronous: Any = importlib.import_module("dspy._vendor.lm15.transports._sync")

_UNREACHABLE = "dspex-model-unreachable"  # an answer of the host's own: it did not reach the model's server


def install() -> None:
    """Has every client of this process go through the host, if it has no network of its own.

    DSPy's routers make their transports themselves, one for each event loop, by these names.
    """
    if sandbox.level() == "strict":
        transports.StdlibTransport, transports.StdlibAsyncTransport = _Sync, _Async


def _connect() -> socket.socket:
    ours, theirs = socket.socketpair()
    with theirs, socket.socket(fileno=process.CHANNEL_FD) as channel:
        try:
            socket.send_fds(channel, [b"c"], [theirs.fileno()])
        except OSError as error:
            ours.close()
            raise transports.ConnectError(f"the host accepts no connection: {error.strerror}") from error
        finally:
            channel.detach()
    return ours


def _unreachable(response: Any) -> bool:
    return any(name.lower() == _UNREACHABLE for name, _ in response.headers)


class _Sync(transports.StdlibTransport):  # type: ignore[misc]
    def __init__(self, **knobs: Any) -> None:
        super().__init__(**{**knobs, "trust_env": False})  # proxies are the host's to use

    def _open(self, parsed: Any, *, proxy: Any, origin: Any, connect_timeout: float) -> Any:
        return _synchronous._SyncConnection(origin, _connect())

    def stream(self, request: Any) -> Any:
        response = super().stream(request)
        if _unreachable(response):
            response.close()
            raise transports.ConnectError("the host cannot reach the model's server")
        return response


class _Async(transports.StdlibAsyncTransport):  # type: ignore[misc]
    def __init__(self, **knobs: Any) -> None:
        super().__init__(**{**knobs, "trust_env": False})

    async def _open(self, parsed: Any, *, proxy: Any, origin: Any, connect_timeout: float) -> Any:
        reader, writer = await asyncio.open_unix_connection(sock=_connect())
        return _asynchronous._AsyncConnection(origin, reader, writer)

    async def _do_stream(self, request: Any) -> Any:
        response = await super()._do_stream(request)
        if _unreachable(response):
            await response.aclose()
            raise transports.ConnectError("the host cannot reach the model's server")
        return response
