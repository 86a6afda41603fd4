"""HTTP to language models: DSPy's transport with less work for each request on a connection that is open.

DSPy's takes a task and a timer for each step, checks headers byte by byte, reads the environment for proxies with each request,
and takes connections above descriptor 1,023 for stale. How a connection is opened (TLS, proxies, tunnels, the sandbox's way
through the host) and how an answer is parsed stay DSPy's. What runs on it is one asyncio protocol, one write, and one timer for
each wait.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import os
import select
import sys
import weakref
from typing import Any

from dspex_worker.engines.dspy_engine.models import outside, waits
from dspex_worker.system import sandbox

__all__ = ["Transport", "make"]

# DSPy's own, which it does not export.
_async: Any = importlib.import_module("dspy._vendor.lm15.transports._async")
_types: Any = importlib.import_module("dspy._vendor.lm15.transports._types")
_http11: Any = importlib.import_module("dspy._vendor.lm15.transports._http11")

HEADS = 256  # request heads that are kept: one for each address and set of headers
HEAD = 64 << 10  # bytes of an answer's head; DSPy's parser takes no more
UNREAD = 256 << 10  # bytes that wait for a slow reader before the socket is no longer read


class _Connection(asyncio.Protocol):
    """An open connection. It takes the place of DSPy's stream reader; DSPy's object is kept, since it closes what it opened."""

    def __init__(self, opened: Any) -> None:
        self.origin = opened.origin
        self._opened = opened
        self._transport = opened.writer.transport
        self._loop = asyncio.get_running_loop()
        self._unread = [bytes(opened.reader._buffer)] if opened.reader._buffer else []
        self._size = sum(map(len, self._unread))
        self._ended = opened.reader.at_eof()
        self._error: BaseException | None = opened.reader.exception()
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._is_full = self._is_paused = False
        self._poll = select.poll()
        self.sock = opened.writer.get_extra_info("socket")
        self._poll.register(self.sock.fileno(), select.POLLIN)
        self._transport.set_protocol(self)
        self._transport.resume_reading()  # the stream reader may have paused it

    def data_received(self, data: bytes) -> None:
        self._unread.append(data)
        self._size += len(data)
        if self._size > UNREAD and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> bool:
        self._ended = True
        _wake(self._reader)
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        self._ended, self._error = True, exc
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        _wake(self._writer)

    def is_stale(self) -> bool:
        """Whether it cannot carry another request: the server has closed it, or sends something without a request."""
        return self._ended or bool(self._unread) or self._transport.is_closing() or bool(self._poll.poll(0))

    async def write(self, data: bytes, timeout: float) -> None:
        """Sends; waits while the other side is slow to take it. OSError when it is gone."""
        if self._ended or self._transport.is_closing():
            raise ConnectionResetError("Connection lost")
        self._transport.write(data)
        while self._is_full:
            if self._ended:
                raise self._error if isinstance(self._error, OSError) else ConnectionResetError("Connection lost")
            self._writer = self._loop.create_future()
            await self._wait(self._writer, timeout)

    async def read(self, timeout: float, most: int = sys.maxsize) -> bytes:
        """What has come, at least a byte and no more than this many; b"" at the end. OSError when it broke."""
        if not self._unread and not self._ended:
            self._reader = self._loop.create_future()
            await self._wait(self._reader, timeout)
        if self._unread:
            data = self._unread[0] if len(self._unread) == 1 else b"".join(self._unread)
            self._unread = [data[most:]] if len(data) > most else []
            data, self._size = data[:most], max(0, len(data) - most)
            if self._is_paused and not self._size:
                self._is_paused = False
                self._transport.resume_reading()
            return data
        if self._error is not None:
            raise self._error
        return b""

    async def _wait(self, future: asyncio.Future[None], timeout: float) -> None:
        timer = self._loop.call_later(timeout, _expire, future)
        try:
            await future
        finally:
            timer.cancel()

    def close(self) -> None:
        self._opened.close()


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


def _expire(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())


class _Response(_types.AsyncTransportResponse):  # type: ignore[misc]
    """An answer whose head is there. read() takes the whole body without a generator's steps."""

    def __init__(self, transport: Transport, conn: _Connection, head: Any, decoder: Any, timeout: float) -> None:
        super().__init__(
            status=head.status,
            reason=head.reason,
            headers=head.headers,
            http_version=head.http_version,
            chunks=self._pieces(),
            release=self._give_back,
        )
        self._transport, self._conn, self._head, self._decoder, self._timeout = transport, conn, head, decoder, timeout
        self._is_begun = self._is_over = False

    async def read(self) -> bytes:
        if self._is_begun:
            rest: bytes = await super().read()
            return rest
        self._is_begun = True
        try:
            parts = list(self._decoder.feed(self._head.leftover)) if self._head.leftover else []
            while not self._is_over and not self._decoder.complete:
                parts += await self._more()
            self._complete = True
        finally:
            await self._release_once(body_consumed=self._complete)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _pieces(self) -> Any:
        self._is_begun = True
        if self._head.leftover:
            for piece in self._decoder.feed(self._head.leftover):
                yield piece
        while not self._is_over and not self._decoder.complete:
            for piece in await self._more():
                yield piece

    async def _more(self) -> list[bytes]:
        try:
            data = await self._conn.read(self._timeout)
        except TimeoutError as error:
            raise _async.ReadTimeout(f"read timed out mid-body: {_async.read_timeout_hint(self._timeout)}") from error
        except OSError as error:
            raise _async.ReadError(f"read failed: {error}") from error
        if data:
            return list(self._decoder.feed(data))
        self._decoder.eof()
        self._is_over = True
        tail = self._decoder.drain()
        return [tail] if tail else []

    async def _give_back(self, body_consumed: bool) -> None:
        whole = body_consumed and self._head.keep_alive() and not getattr(self._decoder, "leftover", b"")
        self._transport.give_back(self._conn, whole)


class Transport(_async.StdlibAsyncTransport):  # type: ignore[misc]
    """DSPy's transport, with its knobs, errors and timeouts. It belongs to the loop that uses it first."""

    def __init__(self, **knobs: Any) -> None:
        super().__init__(**knobs)
        self._free: dict[Any, list[_Connection]] = {}
        self._busy: set[_Connection] = set()
        self._opened = 0
        weakref.finalize(self, _async._close_idle, self._free)

    async def _do_stream(self, request: Any) -> Any:
        if self._closed:
            raise _async.TransportError("transport is closed")
        parsed = _parsed(request.url)
        proxy = None if self._is_direct() else _async.proxy_route_for(parsed, proxy=self._proxy, trust_env=self._trust_env)
        slot = self._pool._slot
        if slot.locked():
            await self._pool.acquire_slot(timeout=self._pool_timeout)
        else:
            await slot.acquire()  # at once
        conn: _Connection | None = None
        try:
            conn = await self._send(request, parsed, proxy)
            head = await _head_of(conn, request.read_timeout or self._read_timeout)
            return _Response(self, conn, head, head.body_decoder(request.method), request.read_timeout or self._read_timeout)
        except BaseException:
            if conn is not None:
                self.give_back(conn, False)
            else:
                slot.release()
            raise

    async def _send(self, request: Any, parsed: Any, proxy: Any) -> _Connection:
        """The connection on which the request is, an open one if there is one; a fresh one if that has just been closed."""
        origin = _async.route_origin(parsed, proxy)
        timeout = request.write_timeout or self._write_timeout
        data = self._head(request, parsed, proxy) + (request.body or b"")
        conn = self._idle(origin)
        if conn is not None and await self._wrote(conn, data, timeout, is_last=False):
            return conn
        conn = _Connection(
            await self._open(parsed, proxy=proxy, origin=origin, connect_timeout=request.connect_timeout or self._connect_timeout)
        )
        self._opened += 1
        await self._wrote(conn, data, timeout, is_last=True)
        return conn

    async def _wrote(self, conn: _Connection, data: bytes, timeout: float, *, is_last: bool) -> bool:
        """Whether it is written. A connection that did not take it is closed."""
        self._busy.add(conn)
        waits.begin(conn, conn.sock)
        try:
            await conn.write(data, timeout)
            return True
        except BaseException as error:
            self._busy.discard(conn)
            waits.end(conn)
            conn.close()
            if isinstance(error, TimeoutError):
                raise _async.WriteTimeout(f"write timed out: {error}") from error
            if not isinstance(error, OSError):
                raise
            if is_last:
                raise _async.WriteError(str(error)) from error
            return False

    def _idle(self, origin: Any) -> _Connection | None:
        free = self._free.get(origin)
        while free:
            conn = free.pop()
            if not conn.is_stale():
                return conn
            conn.close()
        return None

    def give_back(self, conn: _Connection, whole: bool) -> None:
        """Ends a request's use of a connection. whole: its answer was read to the end, so another may follow."""
        if conn not in self._busy:
            return
        self._busy.discard(conn)
        waits.end(conn)
        self._pool.release_slot()
        if whole and not self._closed:
            self._free.setdefault(conn.origin, []).append(conn)
        else:
            conn.close()

    def _is_direct(self) -> bool:
        """Whether no proxy can be meant: what DSPy would find out by reading the whole environment."""
        if self._proxy is not None:
            return False
        if not self._trust_env:
            return True
        names = getattr(os.environ, "_data", None)
        return sys.platform == "linux" and type(names) is dict and b"_proxy\0" not in b"\0".join((*names, b"")).lower()

    def _head(self, request: Any, parsed: Any, proxy: Any) -> bytes:
        body, method = request.body or b"", request.method.upper()
        has_body = method not in ("GET", "HEAD", "DELETE") or bool(body)
        target, headers = parsed.target, tuple(request.headers)
        if proxy is not None and not parsed.is_tls:
            target = f"http://{parsed.host_header()}{parsed.target}"
            if proxy.basic_auth is not None:
                headers = (*headers, ("Proxy-Authorization", proxy.basic_auth))
        before, after = _head(request.method, target, parsed.host, parsed.port, parsed.is_tls, headers, has_body, self._user_agent)
        return b"%b%d%b" % (before, len(body), after) if has_body and after else before

    def pool_stats(self) -> dict[str, int]:
        return {"idle": sum(map(len, self._free.values())), "in_use": len(self._busy), "total_opened": self._opened}

    async def aclose(self) -> None:
        await super().aclose()
        for free in self._free.values():
            for conn in free:
                conn.close()
        self._free.clear()
        for conn in list(self._busy):
            self.give_back(conn, False)


async def _head_of(conn: _Connection, timeout: float) -> Any:
    parser = _http11.ResponseHeadParser()
    while not parser.complete:
        try:
            data = await conn.read(timeout, HEAD - len(parser._buf) or HEAD)
        except TimeoutError as error:
            raise _async.ReadTimeout(f"read timed out waiting for headers: {_async.read_timeout_hint(timeout)}") from error
        except OSError as error:
            raise _async.ReadError(f"read failed: {error}") from error
        if not data:
            raise _async.ReadError("server closed connection before sending response")
        parser.feed(data)
    return parser


_parsed = functools.lru_cache(HEADS)(_async.parse_url)


@functools.lru_cache(HEADS)
def _head(
    method: str, target: str, host: str, port: int, is_tls: bool, headers: tuple[Any, ...], has_body: bool, user_agent: str
) -> tuple[bytes, bytes]:
    """DSPy's request head around the length of the body; whole and nothing when it has none or the caller sets its length."""
    length = 0 if has_body else None
    head: bytes = _http11.build_request_head(
        method=method, target=target, host=host, port=port, is_tls=is_tls, headers=list(headers), body_length=length, user_agent=user_agent
    )
    before, found, after = head.partition(b"\r\nContent-Length: 0\r\n")
    return (before + b"\r\nContent-Length: ", b"\r\n" + after) if found else (head, b"")


class _Strict(outside._Async, Transport):
    """Through the host, at level strict of the sandbox."""


def make(**knobs: Any) -> Transport:
    """A transport for the loop that runs."""
    return _Strict(**knobs) if sandbox.level() == "strict" else Transport(**knobs)
