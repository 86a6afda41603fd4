"""Connections on which a job waits for a model. The job's end ends them, whoever made the LM and in whatever thread or loop it waits.

A thread that waits for a socket cannot be interrupted. Without this, a synchronous program that was cancelled would keep its
thread and the model's slot until the model has answered. The host would then end the worker with all of its other jobs.
"""

from __future__ import annotations

import contextlib
import importlib
import socket
from typing import Any

from dspex_worker.engines.dspy_engine.trace import Trace, trace_var

__all__ = ["begin", "end", "install"]

# DSPy's own, which it does not export.
_async: Any = importlib.import_module("dspy._vendor.lm15.transports._async")
_sync: Any = importlib.import_module("dspy._vendor.lm15.transports._sync")

_jobs: dict[Any, Trace] = {}  # of the connections that are in use


def begin(conn: Any, sock: Any) -> None:
    """A request of the job is about to go out on the connection."""
    trace = trace_var.get()
    if trace is not None:
        _jobs[conn] = trace
        trace.wait_on(conn, lambda: _shut(sock))


def end(conn: Any) -> None:
    """The request is over. Before the connection is closed: its number may belong to another one afterwards."""
    trace = _jobs.pop(conn, None)
    if trace is not None:
        trace.waited_on(conn)


def _shut(sock: Any) -> None:
    # The plain socket's method: that of a TLS socket takes its state away from the thread that reads.
    shut = socket.socket.shutdown if isinstance(sock, socket.socket) else type(sock).shutdown
    with contextlib.suppress(OSError):
        shut(sock, socket.SHUT_RDWR)


class _Pool(_sync._ConnectionPool):  # type: ignore[misc]
    def checkout(self, origin: Any) -> Any:
        conn = super().checkout(origin)
        if conn is not None:
            begin(conn, conn.sock)
        return conn

    def register_new(self, conn: Any) -> None:
        super().register_new(conn)
        begin(conn, conn.sock)

    def checkin(self, conn: Any) -> None:
        end(conn)
        super().checkin(conn)

    def discard(self, conn: Any) -> None:
        end(conn)
        super().discard(conn)


class _AsyncPool(_async._AsyncConnectionPool):  # type: ignore[misc]
    async def checkout(self, origin: Any) -> Any:
        conn = await super().checkout(origin)
        if conn is not None:
            begin(conn, conn.writer.get_extra_info("socket"))
        return conn

    async def register_new(self, conn: Any) -> None:
        await super().register_new(conn)
        begin(conn, conn.writer.get_extra_info("socket"))

    async def checkin(self, conn: Any) -> None:
        end(conn)
        await super().checkin(conn)

    async def discard(self, conn: Any) -> None:
        end(conn)
        await super().discard(conn)


def install() -> None:
    """Has DSPy's transports use such pools. They find them by these names."""
    _sync._ConnectionPool, _async._AsyncConnectionPool = _Pool, _AsyncPool
